// The matrix entries of the reference table: every weight is turned into a float, every sum is
// kept in double.
#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/quant/activations.h"
#include "kernels/quant/dequantize.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/matmul.h"

namespace pregate {
namespace {

// Weight rows that a thread takes at a time.
constexpr int64_t kGrain = 8;

// Rows of x [R, K], of any activation type, as doubles, densely packed.
std::vector<double> ToDouble(ConstTensor x) {
  std::vector<double> values(static_cast<size_t>(x.rows * x.cols));
  double* out = values.data();
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t k = 0; k < x.cols; ++k) {
      if (x.dtype == DType::kF32) {
        *out++ = double{x.Row<float>(r)[k]};
      } else {
        const ActivationGroup& group = ActivationMatrix(x).Group(r, k / 32);
        *out++ = double{group.scale} * group.Quant(x.dtype, static_cast<int>(k % 32));
      }
    }
  }
  return values;
}

// Packed: the rows as the file has them, one behind the other.
int64_t PackedBytes(DType dtype, int64_t rows, int64_t cols) {
  const bool weight = dtype != DType::kI32 && dtype != DType::kQ16Act && dtype != DType::kQ8Act &&
                      dtype != DType::kF8E4M3;
  return weight ? rows * RowBytes(dtype, cols) : 0;
}

void Pack(Device&, ConstTensor weight, bool /*by_tiles*/, void* out) {
  const int64_t row_bytes = RowBytes(weight.dtype, weight.cols);
  for (int64_t r = 0; r < weight.rows; ++r) {
    std::memcpy(static_cast<char*>(out) + r * row_bytes, weight.Row<char>(r),
                static_cast<size_t>(row_bytes));
  }
}

ConstTensor Unpacked(const PackedWeight& weight) {
  return MakeView(weight.data, weight.dtype, weight.rows, weight.cols);
}

void Embed(Device&, const PackedWeight& table, const int32_t* ids, float scale, Tensor out) {
  assert(out.dtype == DType::kF32 && out.cols == table.cols);
  for (int64_t r = 0; r < out.rows; ++r) {
    assert(ids[r] >= 0 && ids[r] < table.rows);
    float* row = out.Row<float>(r);
    DequantizeRow(table.dtype, Unpacked(table).Row<char>(ids[r]), table.cols, row);
    for (int64_t k = 0; k < table.cols; ++k) row[k] *= scale;
  }
}

// Element i of what a list of tiles picks; an empty list picks everything.
int64_t Picked(absl::Span<const int32_t> tiles, int64_t i) {
  return tiles.empty() ? i : 32 * int64_t{tiles[static_cast<size_t>(i / 32)]} + i % 32;
}

void CheckShapes(const Product& product) {
  const auto picked = [](absl::Span<const int32_t> tiles, int64_t all) {
    return tiles.empty() ? all : 32 * static_cast<int64_t>(tiles.size());
  };
  assert(product.x.cols == picked(product.in_tiles, product.weight.cols));
  assert(product.out.cols == picked(product.out_tiles, product.weight.rows));
  assert(product.out.rows == product.x.rows && product.out.dtype == DType::kF32);
  assert(product.out_tiles.empty() || product.bias == nullptr);
}

// Half to even. A NaN becomes the smallest.
int RoundToQuant(float ratio, int limit) {
  const float most = static_cast<float>(limit);
  const float low = ratio > -most ? ratio : -most;
  return static_cast<int>(std::nearbyint(low < most ? low : most));
}

// What kQ13 weights meet: each 128 elements as multiples of a scale of their own.
void RoundToQ13(std::vector<double>* x) {
  constexpr size_t kGroup = std::size(BlockQ13().q);
  for (size_t begin = 0; begin < x->size(); begin += kGroup) {
    float largest = 0;
    for (size_t i = begin; i < begin + kGroup; ++i) {
      largest = std::max(largest, std::fabs(static_cast<float>((*x)[i])));
    }
    const ActivationScale scale = ScaleFor(largest, kMaxQ13);
    for (size_t i = begin; i < begin + kGroup; ++i) {
      const float ratio = static_cast<float>((*x)[i]) * scale.inverse;
      (*x)[i] = double{scale.scale} * (scale.inverse == 0 ? 0 : RoundToQuant(ratio, kMaxQ13));
    }
  }
}

void MultiplyOne(Device& device, const Product& product) {
  CheckShapes(product);
  std::vector<double> x = ToDouble(product.x);
  if (product.weight.dtype == DType::kQ13) RoundToQ13(&x);
  const ConstTensor weight = Unpacked(product.weight);
  const int64_t depth = product.x.cols;
  device.ParallelFor(product.out.cols, kGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> w(static_cast<size_t>(weight.cols));
    for (int64_t n = begin; n < end; ++n) {
      const char* row = weight.Row<char>(Picked(product.out_tiles, n));
      DequantizeRow(weight.dtype, row, weight.cols, w.data());
      const double* a = x.data();
      for (int64_t r = 0; r < product.out.rows; ++r, a += depth) {
        float& out = product.out.Row<float>(r)[n];
        double sum = product.accumulate ? double{out} : 0.0;
        for (int64_t k = 0; k < depth; ++k) {
          sum += a[k] * double{w[static_cast<size_t>(Picked(product.in_tiles, k))]};
        }
        if (product.bias != nullptr) sum += double{product.bias[n]};
        out = static_cast<float>(sum);
      }
    }
  });
}

void Matmul(Device& device, absl::Span<const Product> products) {
  for (const Product& product : products) MultiplyOne(device, product);
}

void QuantizeGroup(DType dtype, const float* x, ActivationGroup* out) {
  float largest = 0;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
  const int limit = dtype == DType::kQ16Act ? kMaxQ16 : kMaxQ8;
  const ActivationScale scale = ScaleFor(largest, limit);
  out->scale = scale.scale;
  int32_t sums[2] = {0, 0};
  for (int i = 0; i < 32; ++i) {
    const int quant = scale.inverse == 0 ? 0 : RoundToQuant(x[i] * scale.inverse, limit);
    if (dtype == DType::kQ16Act) {
      const Q16Bytes bytes = SplitQ16(quant);
      out->high[i] = static_cast<int8_t>(bytes.high);
      out->low[i] = static_cast<int8_t>(bytes.low);
    } else {
      out->high[i] = static_cast<int8_t>(quant);
    }
    sums[i / 16] += out->Quant(dtype, i);
  }
  SetSums(sums[0], sums[1], out);
}

void QuantizeRows(Device&, absl::Span<const Quantization> matrices) {
  for (const auto& [x, out] : matrices) {
    assert(x.dtype == DType::kF32 && out.rows == x.rows && out.cols == x.cols);
    const ActivationMatrix quantized(out);
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t g = 0; g < quantized.depth(); ++g) {
        QuantizeGroup(out.dtype, x.Row<float>(r) + g * 32, &quantized.Group(r, g));
      }
    }
  }
}

}  // namespace

void FillMatmulReference(Kernels* table) {
  table->embed = Embed;
  table->packed_bytes = PackedBytes;
  table->pack = Pack;
  table->quantize_rows = QuantizeRows;
  table->matmul = Matmul;
  std::fill_n(table->activation_dtype, kNumDTypes, DType::kF32);
}

}  // namespace pregate
