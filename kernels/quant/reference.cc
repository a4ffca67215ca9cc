// The matrix entries of the reference table: every weight is turned into a float, every sum is
// kept in double.
#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/quant/dequantize.h"
#include "kernels/quant/entries.h"
#include "kernels/quant/matmul.h"
#include "kernels/quant/q16_act.h"

namespace pregate {
namespace {

// Weight rows that a thread takes at a time.
constexpr int64_t kGrain = 8;

// Rows of x [R, K] kF32 or kQ16Act as doubles, densely packed.
std::vector<double> ToDouble(ConstTensor x) {
  std::vector<double> values(static_cast<size_t>(x.rows * x.cols));
  double* out = values.data();
  for (int64_t r = 0; r < x.rows; ++r) {
    if (x.dtype == DType::kF32) {
      out = std::copy_n(x.Row<float>(r), x.cols, out);
      continue;
    }
    const Q16ActRow<const char> row(x.Row<char>(r), x.cols);
    for (int64_t k = 0; k < x.cols; ++k) *out++ = double{row.scales()[k / 32]} * row.Quant(k);
  }
  return values;
}

void Matmul(Device& device, ConstTensor x, ConstTensor weight, const float* bias, Tensor out) {
  assert(x.dtype == DType::kF32 || x.dtype == DType::kQ16Act);
  assert(x.cols == weight.cols && out.rows == x.rows && out.cols == weight.rows);
  const std::vector<double> activations = ToDouble(x);
  device.ParallelFor(weight.rows, kGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> w(static_cast<size_t>(x.cols));
    for (int64_t n = begin; n < end; ++n) {
      DequantizeRow(weight.dtype, weight.Row<char>(n), x.cols, w.data());
      const double* a = activations.data();
      for (int64_t r = 0; r < x.rows; ++r, a += x.cols) {
        double sum = 0;
        for (int64_t k = 0; k < x.cols; ++k) sum += a[k] * double{w[static_cast<size_t>(k)]};
        if (bias != nullptr) sum += double{bias[n]};
        out.Row<float>(r)[n] = static_cast<float>(sum);
      }
    }
  });
}

// Half to even. Where the scale is subnormal the ratio may leave the range; a NaN becomes the
// smallest.
int RoundToQuant(float ratio) {
  constexpr float kLimit = kMaxQ16;
  const float low = ratio > -kLimit ? ratio : -kLimit;
  return static_cast<int>(std::nearbyint(low < kLimit ? low : kLimit));
}

void QuantizeRow(const float* x, Q16ActRow<char> out) {
  for (int64_t group = 0; group < out.cols() / 32; ++group) {
    const float* values = x + group * 32;
    float largest = 0;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(values[i]));
    const float scale = largest / static_cast<float>(kMaxQ16);
    out.scales()[group] = scale;
    for (int half = 0; half < 2; ++half) {
      int sum = 0;
      for (int i = half * 16; i < half * 16 + 16; ++i) {
        const Q16Bytes q = SplitQ16(scale == 0 ? 0 : RoundToQuant(values[i] / scale));
        out.high()[group * 32 + i] = static_cast<int8_t>(q.high);
        out.low()[group * 32 + i] = static_cast<int8_t>(q.low);
        sum += 256 * q.high + q.low;
      }
      out.sums()[group * 2 + half] = sum;
    }
  }
}

void QuantizeRows(Device& device, ConstTensor x, Tensor out) {
  assert(x.dtype == DType::kF32 && out.dtype == DType::kQ16Act && x.cols % 32 == 0);
  assert(out.rows == x.rows && out.cols == x.cols);
  device.ParallelFor(x.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      QuantizeRow(x.Row<float>(r), Q16ActRow<char>(out.Row<char>(r), x.cols));
    }
  });
}

}  // namespace

void EmbedRows(Device& device, ConstTensor table, const int32_t* ids, float scale, Tensor out) {
  assert(out.dtype == DType::kF32 && out.cols == table.cols);
  device.ParallelFor(out.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      assert(ids[r] >= 0 && ids[r] < table.rows);
      float* row = out.Row<float>(r);
      DequantizeRow(table.dtype, table.Row<char>(ids[r]), table.cols, row);
      for (int64_t k = 0; k < table.cols; ++k) row[k] *= scale;
    }
  });
}

void FillMatmulReference(Kernels* table) {
  table->embed = EmbedRows;
  table->quantize_rows = QuantizeRows;
  for (int i = 0; i < kNumDTypes; ++i) {
    const DType dtype = static_cast<DType>(i);
    const bool weight = dtype != DType::kI32 && dtype != DType::kQ16Act;
    table->matmul[i] = weight ? Matmul : nullptr;
    table->activation_dtype[i] = DType::kF32;
  }
}

}  // namespace pregate
