// Runs a test once for every table of this build; a table that this machine cannot run is skipped.
#ifndef PREGATE_TESTS_KERNELS_TABLE_TEST_H_
#define PREGATE_TESTS_KERNELS_TABLE_TEST_H_

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace pregate {

inline constexpr double kEpsilon = std::numeric_limits<float>::epsilon();

inline std::vector<CpuTable> TablesUnderTest() {
  std::vector<CpuTable> tables = AllCpuTables();
  tables.insert(tables.begin(), {&ReferenceKernels(), true});
  return tables;
}

class TableTest : public testing::TestWithParam<CpuTable> {
 protected:
  void SetUp() override {
    if (!GetParam().runnable) {
      GTEST_SKIP() << "this processor cannot run " << GetParam().kernels->name;
    }
  }
  const Kernels& kernels() const { return *GetParam().kernels; }
  const Kernels& reference() const { return ReferenceKernels(); }

  const std::unique_ptr<Device> device_ = MakeCpuDevice(2);
};

inline std::string TableName(const testing::TestParamInfo<CpuTable>& info) {
  return std::string(info.param.kernels->name);
}

}  // namespace pregate

#endif  // PREGATE_TESTS_KERNELS_TABLE_TEST_H_
