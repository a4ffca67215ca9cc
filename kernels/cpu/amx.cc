#include "kernels/cpu/amx.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace pregate {
namespace {

// Linux, arch/x86/include/uapi/asm/prctl.h, and the number of the state of tile registers.
constexpr int kArchReqXcompPerm = 0x1023;
constexpr int kXfeatureXtiledata = 18;

}  // namespace

bool AmxPermitted() {
  static const bool permitted =
      syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
  return permitted;
}

}  // namespace pregate
