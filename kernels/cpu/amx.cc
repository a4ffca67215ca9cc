#include "kernels/cpu/amx.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace pregate {
namespace {

// Linux, arch/x86/include/uapi/asm/prctl.h, and the number of the state of tile registers.
constexpr int kArchReqXcompPerm = 0x1023;
constexpr int kXfeatureXtiledata = 18;

}  // namespace

bool UsableAmx() {
  static const bool usable = __builtin_cpu_supports("amx-tile") &&
                             __builtin_cpu_supports("amx-bf16") &&
                             __builtin_cpu_supports("amx-int8") &&
                             syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
  return usable;
}

}  // namespace pregate
