// Runs a test once for every table of this build and every weight type.
#ifndef PREGATE_TESTS_KERNELS_WEIGHT_TEST_H_
#define PREGATE_TESTS_KERNELS_WEIGHT_TEST_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/table_test.h"
#include "tests/kernels/weights.h"

namespace pregate {

// Rows [first, first + rows).
inline Tensor SomeRows(const GuardedMatrix& matrix, int64_t first, int64_t rows) {
  Tensor view = matrix.view();
  view.data = view.Row<char>(first);
  view.rows = rows;
  return view;
}

class WeightTest : public testing::TestWithParam<std::tuple<TestTable, DType>> {
 protected:
  void SetUp() override {
    if (!table().why_not.empty()) GTEST_SKIP() << table().why_not;
    device_ = MakeDevice(2);
  }
  const TestTable& table() const { return std::get<0>(GetParam()); }
  const Kernels& kernels() const { return *table().kernels; }
  std::unique_ptr<Device> MakeDevice(int threads) const { return table().make_device(threads); }
  DType dtype() const { return std::get<1>(GetParam()); }

  // kF32, and the quantised ones where the table wants them. A slow table has one form for both
  // (HalvesTest.BothTypesAreTheSame), which is taken once.
  std::vector<DType> ActivationTypes() const {
    const DType wanted = kernels().activation_dtype[static_cast<int>(dtype())];
    if (table().slow && wanted != DType::kF32) return {DType::kF32, wanted};
    return wanted == DType::kF32 ? std::vector<DType>{wanted}
                                 : std::vector<DType>{DType::kF32, wanted, DType::kQ8Act};
  }

  // On a slow table the laws are checked with one type of each kind of kernel.
  bool AnotherTypeWillDo() const {
    const std::vector<DType> kinds = {DType::kF32,  DType::kBF16, DType::kQ8_0,
                                      DType::kQ5_1, DType::kQ6_K, DType::kF8Blocks};
    return table().slow && std::find(kinds.begin(), kinds.end(), dtype()) == kinds.end();
  }

  // x in the type asked for.
  GuardedMatrix Activations(DType type, ConstTensor x) {
    if (type == DType::kF32) {
      GuardedMatrix copy(type, x.rows, x.cols);
      for (int64_t r = 0; r < x.rows; ++r) {
        std::copy_n(x.Row<float>(r), x.cols, copy.view().Row<float>(r));
      }
      return copy;
    }
    GuardedMatrix quantised(type, x.rows, x.cols, /*padding=*/0);
    kernels().quantize_rows(*device_, {{x, quantised.view()}});
    EXPECT_TRUE(quantised.GuardsIntact());
    return quantised;
  }
  GuardedMatrix RandomActivations(DType type, int64_t rows, int64_t cols, uint64_t seed) {
    return Activations(type, RandomMatrix(rows, cols, seed).view());
  }

  PackedMatrix Pack(ConstTensor weight, bool by_tiles = false) {
    return PackedMatrix(*device_, kernels(), weight, by_tiles);
  }
  PackedMatrix Pack(const GuardedMatrix& weight, bool by_tiles = false) {
    return Pack(weight.view(), by_tiles);
  }

  std::unique_ptr<Device> device_;                         // of the table
  const std::unique_ptr<Device> host_ = MakeCpuDevice(2);  // of the reference
};

// Each table with each type; but of several slow ones, which are one table that runs in different
// ways, the others with one type of each kind of kernel.
inline auto TablesAndTypes() {
  std::vector<std::tuple<TestTable, DType>> all;
  bool slow_before = false;
  for (const TestTable& table : TablesUnderTest()) {
    const bool few = table.slow && slow_before;
    for (const DType dtype :
         few ? std::vector<DType>{DType::kBF16, DType::kQ5_1, DType::kQ6_K} : kWeightTypes) {
      all.emplace_back(table, dtype);
    }
    slow_before |= table.slow;
  }
  return testing::ValuesIn(all);
}
inline std::string TableAndTypeName(const testing::TestParamInfo<WeightTest::ParamType>& info) {
  return std::get<0>(info.param).name + "_" +
         std::string(GetDTypeInfo(std::get<1>(info.param)).name);
}

}  // namespace pregate

#endif  // PREGATE_TESTS_KERNELS_WEIGHT_TEST_H_
