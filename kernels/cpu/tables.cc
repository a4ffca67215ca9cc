#include <cstdlib>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/cpu_tables.h"
#include "kernels/quant/matmul.h"

namespace pregate {
namespace {

bool HasAvx2() {
  // The compiler's check covers XGETBV too: whether the operating system saves the registers.
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool HasAvx512Vnni() { return HasAvx512() && __builtin_cpu_supports("avx512vnni"); }

bool HasAmx() { return HasAvx512Vnni() && UsableAmx(); }

Kernels MakeTable(std::string_view name, void (*fill_rest)(Kernels*),
                  void (*fill_matmul)(Kernels*)) {
  Kernels kernels = ReferenceKernels();
  kernels.name = name;
  fill_rest(&kernels);
  fill_matmul(&kernels);
  return kernels;
}

}  // namespace

std::vector<CpuTable> AllCpuTables() {
  static const Kernels avx2 = MakeTable("avx2", FillCpuAvx2, FillMatmulAvx2);
  static const Kernels avx512 = MakeTable("avx512", FillCpuAvx512, FillMatmulAvx512);
  static const Kernels vnni = MakeTable("avx512vnni", FillCpuAvx512, FillMatmulAvx512Vnni);
  static const Kernels amx = MakeTable("amx", FillCpuAvx512, FillMatmulAmx);
  return {{&avx2, HasAvx2()}, {&avx512, HasAvx512()}, {&vnni, HasAvx512Vnni()}, {&amx, HasAmx()}};
}

absl::StatusOr<const Kernels*> CpuKernels(std::string_view isa) {
  std::string_view asked = isa;
  if (asked.empty()) {
    const char* variable = std::getenv("PREGATE_ISA");
    if (variable != nullptr) asked = variable;
  }
  const Kernels* fastest = &ReferenceKernels();
  if (asked == fastest->name) return fastest;
  std::string names(fastest->name);
  for (const CpuTable& table : AllCpuTables()) {
    if (asked == table.kernels->name) {
      if (table.runnable) return table.kernels;
      return absl::FailedPreconditionError(
          absl::StrCat("isa: must be one that this processor has; got ", std::string(asked)));
    }
    if (table.runnable) fastest = table.kernels;
    absl::StrAppend(&names, ", ", std::string(table.kernels->name));
  }
  if (asked.empty()) return fastest;
  return absl::NotFoundError(
      absl::StrCat("isa: must be one of ", names, "; got ", std::string(asked)));
}

}  // namespace pregate
