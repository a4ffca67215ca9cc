// Runs a test once for every table that a test binary is linked with; a table that this machine
// cannot run is skipped.
#ifndef PREGATE_TESTS_KERNELS_TABLE_TEST_H_
#define PREGATE_TESTS_KERNELS_TABLE_TEST_H_

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace pregate {

inline constexpr double kEpsilon = std::numeric_limits<float>::epsilon();

// A table with the device that its entries take.
struct TestTable {
  std::string name;  // of letters, digits and underscores
  const Kernels* kernels = nullptr;
  std::unique_ptr<Device> (*make_device)(int threads) = MakeCpuDevice;
  std::string why_not;  // it cannot run here; empty: it can
  // An element of a matrix that the table's quantize_rows has made, where that has a form of its
  // own; null: the form is that of kernels/quant/activations.h.
  float (*activation)(ConstTensor x, int64_t row, int64_t k) = nullptr;
  bool slow = false;  // so that tests take fewer of their cases
};
inline void PrintTo(const TestTable& table, std::ostream* out) { *out << table.name; }

// Those of the CPU, the reference included (cpu_tables.cc), or of another device.
std::vector<TestTable> TablesUnderTest();

// Those that this machine can run.
inline std::vector<TestTable> RunnableTables() {
  std::vector<TestTable> tables = TablesUnderTest();
  std::erase_if(tables, [](const TestTable& table) { return !table.why_not.empty(); });
  return tables;
}

// In a test that loops over them: skips it, visibly, where there are none.
#define PREGATE_SKIP_WITHOUT_TABLES() \
  if (RunnableTables().empty()) GTEST_SKIP() << TablesUnderTest().front().why_not

class TableTest : public testing::TestWithParam<TestTable> {
 protected:
  void SetUp() override {
    if (!GetParam().why_not.empty()) GTEST_SKIP() << GetParam().why_not;
    device_ = MakeDevice(2);
  }
  const Kernels& kernels() const { return *GetParam().kernels; }
  const Kernels& reference() const { return ReferenceKernels(); }
  std::unique_ptr<Device> MakeDevice(int threads) const { return GetParam().make_device(threads); }

  std::unique_ptr<Device> device_;                         // of the table
  const std::unique_ptr<Device> host_ = MakeCpuDevice(2);  // of the reference
};

inline std::string TableName(const testing::TestParamInfo<TestTable>& info) {
  return info.param.name;
}

}  // namespace pregate

#endif  // PREGATE_TESTS_KERNELS_TABLE_TEST_H_
