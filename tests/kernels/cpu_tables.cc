// The tables of the CPU, for the tests of this folder.
#include "tests/kernels/table_test.h"

namespace pregate {

std::vector<TestTable> TablesUnderTest() {
  std::vector<TestTable> tables = {{"reference", &ReferenceKernels(), MakeCpuDevice, ""}};
  for (const CpuTable& table : AllCpuTables()) {
    const std::string name(table.kernels->name);
    tables.push_back({name, table.kernels, MakeCpuDevice,
                      table.runnable ? "" : "this processor cannot run " + name});
  }
  return tables;
}

}  // namespace pregate
