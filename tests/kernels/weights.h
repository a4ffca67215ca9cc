// Weights of every type for tests and benchmarks of the matrix products.
#ifndef PREGATE_TESTS_KERNELS_WEIGHTS_H_
#define PREGATE_TESTS_KERNELS_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "tests/kernels/kernel_cases.h"

namespace pregate {

inline const std::vector<DType> kWeightTypes = {
    DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1,
    DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kF8Blocks,
};

enum class WeightStyle : uint8_t {
  kOrdinary,     // random quants, scales such that values are about 1 at most
  kZero,         // all bits zero
  kOnes,         // every quant and packed scale has all bits set
  kTopBits,      // every byte of quants is 0x80: -128 in Q8_0
  kTinyScales,   // random quants, subnormal halves as scales
  kLargeScales,  // random quants, scales near the largest half
};

// A matrix of `dtype` whose rows are apart, the same from the same seed.
GuardedMatrix MakeWeights(DType dtype, int64_t rows, int64_t cols, uint64_t seed,
                          WeightStyle style = WeightStyle::kOrdinary);

// Random numbers in [-1, 1) as kQ13, which no file holds and of which products want floats.
GuardedMatrix MakeQ13Weights(int64_t rows, int64_t cols, uint64_t seed);

// What a row of weights is made of: |d q| + |m| of each element is at most result[k], where the
// value is d q + m. An error bound has to count both parts, which may cancel.
std::vector<double> PartsOfRow(ConstTensor weight, int64_t row);

// A weight in the form of a table, with a guard behind it. The device must outlive it.
class PackedMatrix {
 public:
  PackedMatrix(Device& device, const Kernels& kernels, ConstTensor weight, bool by_tiles = false);
  const PackedWeight& view() const { return view_; }
  bool GuardIntact() const;

 private:
  Device* device_;
  DeviceBuffer memory_;
  PackedWeight view_;
};

}  // namespace pregate

#endif  // PREGATE_TESTS_KERNELS_WEIGHTS_H_
