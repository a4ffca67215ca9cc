#include "tests/kernels/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/quant/dequantize.h"
#include "kernels/quant/formats.h"
#include "kernels/quant/quantize_weights.h"

namespace pregate {
namespace {

constexpr size_t kGuardBytes = 64;
constexpr char kGuard = 0x5A;

// Where the halves of a block lie, and the largest value of a quant times its packed scale.
struct BlockShape {
  std::vector<size_t> halves;
  float largest;
};

BlockShape ShapeOf(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:
      return {{0}, 128};
    case DType::kQ4_0:
      return {{0}, 8};
    case DType::kQ5_0:
      return {{0}, 16};
    case DType::kQ4_1:
      return {{0, 2}, 15};
    case DType::kQ5_1:
      return {{0, 2}, 31};
    case DType::kQ4_K:
      return {{0, 2}, 63 * 15};
    case DType::kQ5_K:
      return {{0, 2}, 63 * 31};
    case DType::kQ6_K:
      return {{offsetof(BlockQ6_K, d)}, 128 * 32};
    default:
      return {};
  }
}

float ScaleOf(WeightStyle style, float largest, float random) {
  switch (style) {
    case WeightStyle::kZero:
      return 0;
    case WeightStyle::kTinyScales:
      return random * 0x1p-18f;
    case WeightStyle::kLargeScales:
      return random < 0 ? -65504.0f : 65504.0f;
    default:
      return random / largest;
  }
}

uint8_t QuantByte(WeightStyle style, float random) {
  switch (style) {
    case WeightStyle::kZero:
      return 0;
    case WeightStyle::kOnes:
      return 0xFF;
    case WeightStyle::kTopBits:
      return 0x80;
    default:
      return static_cast<uint8_t>((random + 1) * 128);
  }
}

void FillBlock(DType dtype, WeightStyle style, Numbers* numbers, char* block) {
  const BlockShape shape = ShapeOf(dtype);
  const int bytes = GetDTypeInfo(dtype).block_bytes;
  for (int i = 0; i < bytes; ++i) {
    block[i] = static_cast<char>(QuantByte(style, numbers->Next()));
  }
  if (dtype == DType::kF8Blocks) {
    const float scale = ScaleOf(style, 448, numbers->Next());
    std::memcpy(block + offsetof(BlockF8, d), &scale, sizeof(scale));
  }
  for (const size_t at : shape.halves) {
    const uint16_t half = FloatToHalf(ScaleOf(style, shape.largest, numbers->Next()));
    std::memcpy(block + at, &half, sizeof(half));
  }
}

void FillPlain(DType dtype, WeightStyle style, Numbers* numbers, char* element) {
  const float value = ScaleOf(style, 1.0f, numbers->Next());
  if (dtype == DType::kF32) {
    std::memcpy(element, &value, sizeof(value));
    return;
  }
  const uint16_t bits = dtype == DType::kF16 ? FloatToHalf(value) : FloatToBFloat16(value);
  std::memcpy(element, &bits, sizeof(bits));
}

// A row whose quants are all zero bits: its values are the m of each element.
void ClearQuants(DType dtype, char* block) {
  const size_t bytes = static_cast<size_t>(GetDTypeInfo(dtype).block_bytes);
  size_t first = ShapeOf(dtype).halves.size() * 2;
  size_t end = bytes;
  if (dtype == DType::kQ4_K || dtype == DType::kQ5_K) first += sizeof(BlockQ4_K::scales);
  if (dtype == DType::kF8Blocks) first = sizeof(BlockF8::d);
  if (dtype == DType::kQ6_K) {
    first = 0;
    end = offsetof(BlockQ6_K, scales);
  }
  std::memset(block + first, 0, end - first);
}

}  // namespace

GuardedMatrix MakeWeights(DType dtype, int64_t rows, int64_t cols, uint64_t seed,
                          WeightStyle style) {
  // Rows of a file are not aligned to anything.
  GuardedMatrix matrix(dtype, rows, cols, 7);
  const DTypeInfo& info = GetDTypeInfo(dtype);
  Numbers numbers(seed);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t b = 0; b < cols / info.block_elements; ++b) {
      char* block = matrix.view().Row<char>(r) + b * info.block_bytes;
      info.block_elements == 1 ? FillPlain(dtype, style, &numbers, block)
                               : FillBlock(dtype, style, &numbers, block);
    }
  }
  return matrix;
}

GuardedMatrix MakeQ13Weights(int64_t rows, int64_t cols, uint64_t seed) {
  const GuardedMatrix values = RandomMatrix(rows, cols, seed);
  GuardedMatrix weights(DType::kQ13, rows, cols);
  for (int64_t r = 0; r < rows; ++r) {
    QuantizeRow(DType::kQ13, values.Row(r), cols, weights.view().Row<char>(r));
  }
  return weights;
}

std::vector<double> PartsOfRow(ConstTensor weight, int64_t row) {
  const auto cols = static_cast<size_t>(weight.cols);
  const DTypeInfo& info = GetDTypeInfo(weight.dtype);
  std::vector<float> values(cols), minimums(cols, 0.0f);
  const char* bytes = weight.Row<char>(row);
  DequantizeRow(weight.dtype, bytes, weight.cols, values.data());
  if (info.block_elements > 1) {
    std::vector<char> cleared(bytes, bytes + RowBytes(weight.dtype, weight.cols));
    for (size_t at = 0; at < cleared.size(); at += static_cast<size_t>(info.block_bytes)) {
      ClearQuants(weight.dtype, cleared.data() + at);
    }
    DequantizeRow(weight.dtype, cleared.data(), weight.cols, minimums.data());
  }
  std::vector<double> parts(cols);
  for (size_t k = 0; k < cols; ++k) {
    parts[k] = std::fabs(double{values[k]}) + 2 * std::fabs(double{minimums[k]});
  }
  return parts;
}

PackedMatrix::PackedMatrix(Device& device, const Kernels& kernels, ConstTensor weight,
                           bool by_tiles)
    : view_{nullptr, weight.dtype, weight.rows, weight.cols, by_tiles} {
  const auto bytes =
      static_cast<size_t>(kernels.packed_bytes(weight.dtype, weight.rows, weight.cols));
  device_ = &device;
  memory_ = *device.Allocate(bytes + kGuardBytes);
  const std::vector<char> guard(kGuardBytes, kGuard);
  device.CopyToDevice(static_cast<char*>(memory_.data()) + bytes, guard.data(), kGuardBytes);
  kernels.pack(device, weight, by_tiles, memory_.data());
  view_.data = memory_.data();
}

bool PackedMatrix::GuardIntact() const {
  const char* const end = static_cast<const char*>(memory_.data()) + memory_.size();
  std::vector<char> guard(kGuardBytes);
  device_->CopyToHost(guard.data(), end - kGuardBytes, kGuardBytes);
  return std::all_of(guard.begin(), guard.end(), [](char byte) { return byte == kGuard; });
}

}  // namespace pregate
