// Activations as the CUDA table keeps them (kernels/cuda/activation_form.h), and products that it
// leaves to a library.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "kernels/cuda/activation_form.h"
#include "kernels/cuda/blas.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/shim/shim.h"
#include "tests/kernels/table_test.h"
#include "tests/kernels/weights.h"

namespace pregate {
namespace {

class HalvesTest : public TableTest {
 protected:
  GuardedMatrix Quantize(DType type, ConstTensor x) {
    GuardedMatrix out(type, x.rows, x.cols, 0);
    kernels().quantize_rows(*device_, {{x, out.view()}});
    EXPECT_TRUE(out.GuardsIntact());
    return out;
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, HalvesTest, testing::ValuesIn(TablesUnderTest()), TableName);

TEST_P(HalvesTest, HandMadeRows) {
  GuardedMatrix x(DType::kF32, 3, 64);
  for (int64_t r = 0; r < 3; ++r) std::fill_n(x.view().Row<float>(r), 64, 0.0f);
  float* const usual = x.view().Row<float>(0);
  usual[0] = 16;
  usual[1] = -24;
  usual[2] = 16 + 16.0f / 2048;  // half a step above a half, to even: down
  usual[3] = 16 + 48.0f / 2048;  // up
  usual[32] = 8;
  x.view().Row<float>(1)[5] = 0x1p-30f;         // becomes 2^14
  x.view().Row<float>(2)[5] = 0x1p100f * 1.5f;  // becomes 1.5 * 2^14
  x.view().Row<float>(2)[40] = -0x1p99f;
  const GuardedMatrix out = Quantize(DType::kQ16Act, x.view());
  const cuda::HalfActivations form = cuda::HalvesIn(out.view().data, 3, 64);
  EXPECT_EQ(form.sum_stride, 4);
  EXPECT_EQ(form.scales[0], 16.0f);
  EXPECT_EQ(form.scales[1], 0x1p-44f);
  EXPECT_EQ(form.scales[2], 0x1p86f);
  const auto half = [&](int64_t row, int64_t k) { return HalfToFloat(form.halves[row * 64 + k]); };
  EXPECT_EQ(half(0, 0), 1.0f);
  EXPECT_EQ(half(0, 1), -1.5f);
  EXPECT_EQ(half(0, 2), 1.0f);
  EXPECT_EQ(half(0, 3), 1.0f + 2.0f / 1024);
  EXPECT_EQ(half(1, 5), 0x1p14f);
  EXPECT_EQ(half(2, 5), 1.5f * 0x1p14f);
  EXPECT_EQ(half(2, 40), -0x1p13f);
  EXPECT_EQ(form.sums[0], 1.5f + 2.0f / 1024);  // first 32 columns of row 0
  EXPECT_EQ(form.sums[form.sum_stride], 0.5f);  // the others
  EXPECT_EQ(form.sums[1], 0x1p14f);
  EXPECT_EQ(form.sums[form.sum_stride + 2], -0x1p13f);
}

// The error that activation_form.h names, for rows of any size.
TEST_P(HalvesTest, ErrorIsThatOfAHalf) {
  for (const float size : {1.0f, 30.0f, 1e-3f, 3e5f, 1e6f, 1e-30f, 1e-38f, 3e38f, 0.0f}) {
    for (const int64_t rows : {1, 2, 5, 13}) {
      const GuardedMatrix x = RandomMatrix(rows, 288, 17, size);
      const GuardedMatrix out = Quantize(DType::kQ16Act, x.view());
      for (int64_t r = 0; r < rows; ++r) {
        float largest = 0;
        for (int64_t k = 0; k < 288; ++k) largest = std::max(largest, std::fabs(x.Row(r)[k]));
        // Below 2^-100 a row is not brought up to the top of the halves.
        const double least = std::max(0x1p-19 * double{largest}, 0x1p-139);
        for (int64_t k = 0; k < 288; ++k) {
          const double want = double{x.Row(r)[k]};
          ASSERT_NEAR(double{GetParam().activation(out.view(), r, k)}, want,
                      std::max(0x1p-11 * std::fabs(want), least))
              << "row " << r << " of " << rows << ", column " << k << ", size " << size;
        }
      }
    }
  }
}

// One byte or two are asked for: this table has one form.
TEST_P(HalvesTest, BothTypesAreTheSame) {
  const GuardedMatrix x = RandomMatrix(7, 96, 21);
  const GuardedMatrix two = Quantize(DType::kQ16Act, x.view());
  const GuardedMatrix one = Quantize(DType::kQ8Act, x.view());
  for (int64_t r = 0; r < 7; ++r) {
    for (int64_t k = 0; k < 96; ++k) {
      ASSERT_EQ(GetParam().activation(one.view(), r, k), GetParam().activation(two.view(), r, k));
    }
  }
}

TEST_P(HalvesTest, InfinityStaysInItsRow) {
  GuardedMatrix x = RandomMatrix(2, 32, 22);
  x.view().Row<float>(0)[3] = -std::numeric_limits<float>::infinity();
  const GuardedMatrix out = Quantize(DType::kQ16Act, x.view());
  EXPECT_EQ(GetParam().activation(out.view(), 0, 3), -std::numeric_limits<float>::infinity());
  EXPECT_NEAR(GetParam().activation(out.view(), 1, 3), x.Row(1)[3], 1e-3);
}

// A library that multiplies on the host, or refuses.
class HostBlas : public Blas {
 public:
  explicit HostBlas(Device* device) : device_(device) {}
  bool Multiply(const HalfProduct& p) override {
    if (refuses) return false;
    ++calls;
    const std::vector<uint16_t> x = Halves(p.x, p.rows * p.depth);
    const std::vector<uint16_t> weight = Halves(p.weight, p.outputs * p.depth);
    for (int64_t r = 0; r < p.rows; ++r) {
      for (int64_t n = 0; n < p.outputs; ++n) {
        double sum = 0;
        for (int64_t k = 0; k < p.depth; ++k) {
          sum += double{HalfToFloat(x[static_cast<size_t>(r * p.depth + k)])} *
                 HalfToFloat(weight[static_cast<size_t>(n * p.depth + k)]);
        }
        const auto result = static_cast<float>(double{p.alpha} * sum);
        device_->CopyToDevice(p.out + r * p.out_stride + n, &result, sizeof(result));
      }
    }
    return true;
  }
  bool refuses = false;
  int calls = 0;

 private:
  std::vector<uint16_t> Halves(const void* from, int64_t count) {
    std::vector<uint16_t> halves(static_cast<size_t>(count));
    device_->CopyToHost(halves.data(), from, halves.size() * sizeof(uint16_t));
    return halves;
  }
  Device* device_;
};

// A shim device with such a library.
class DeviceWithBlas : public GpuDevice {
 public:
  std::string_view name() const override { return inner_->name(); }
  bool host_memory() const override { return false; }
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override { return inner_->Allocate(bytes); }
  void CopyToDevice(void* dst, const void* host_src, size_t bytes) override {
    inner_->CopyToDevice(dst, host_src, bytes);
  }
  void CopyToHost(void* host_dst, const void* src, size_t bytes) override {
    inner_->CopyToHost(host_dst, src, bytes);
  }
  void Synchronize() override {}
  void ParallelFor(int64_t count, int64_t grain,
                   absl::FunctionRef<void(int64_t begin, int64_t end)> body) override {
    inner_->ParallelFor(count, grain, body);
  }
  int num_threads() const override { return 1; }
  void* stream() override { return nullptr; }
  void* Scratch(size_t bytes) override { return inner_->Scratch(bytes); }
  const void* Resident(const void* host, size_t bytes) override {
    return inner_->Resident(host, bytes);
  }
  int multiprocessors() const override { return inner_->multiprocessors(); }
  size_t max_shared_bytes() const override { return inner_->max_shared_bytes(); }
  HostBlas* blas() override { return &blas_; }

 protected:
  void Free(void* /*data*/, size_t /*bytes*/) override {}

 private:
  const std::unique_ptr<GpuDevice> inner_ = MakeShimDevice();
  HostBlas blas_{inner_.get()};
};

// Rows of usual scales and of others, matrices of usual factors and of others, with a bias.
TEST_P(HalvesTest, LibrarysProductsAreFinished) {
  DeviceWithBlas device;
  constexpr int64_t kRows = 66, kDepth = 64, kOutputs = 36;
  GuardedMatrix x = RandomMatrix(kRows, kDepth, 31);
  for (int64_t k = 0; k < kDepth; ++k) {
    x.view().Row<float>(3)[k] *= 1e-6f;
    x.view().Row<float>(7)[k] *= 1e9f;
  }
  const GuardedMatrix halves = Quantize(DType::kQ16Act, x.view());
  const GuardedMatrix bias = RandomMatrix(1, kOutputs, 32, 1e-3f);
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (const WeightStyle style : {WeightStyle::kOrdinary, WeightStyle::kTinyScales}) {
      const GuardedMatrix weight = MakeWeights(dtype, kOutputs, kDepth, 33, style);
      const PackedMatrix packed(device, kernels(), weight.view());
      for (const float* b : {static_cast<const float*>(nullptr), bias.Row(0)}) {
        GuardedMatrix by_library(DType::kF32, kRows, kOutputs, 16),
            by_kernel(DType::kF32, kRows, kOutputs, 16);
        const auto multiply = [&](const GuardedMatrix& out) {
          kernels().matmul(
              device,
              {{.x = halves.view(), .weight = packed.view(), .bias = b, .out = out.view()}});
        };
        device.blas()->calls = 0;
        device.blas()->refuses = false;
        multiply(by_library);
        EXPECT_EQ(device.blas()->calls, 1);
        device.blas()->refuses = true;
        multiply(by_kernel);
        EXPECT_TRUE(by_library.GuardsIntact());
        for (int64_t r = 0; r < kRows; ++r) {
          for (int64_t n = 0; n < kOutputs; ++n) {
            const std::vector<double> parts = PartsOfRow(weight.view(), n);
            double size = b == nullptr ? 0 : std::fabs(double{b[n]});
            for (int64_t k = 0; k < kDepth; ++k) {
              size += parts[static_cast<size_t>(k)] * std::fabs(double{x.Row(r)[k]});
            }
            ASSERT_NEAR(by_library.Row(r)[n], by_kernel.Row(r)[n], 8 * kEpsilon * size)
                << r << ", " << n;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace pregate
