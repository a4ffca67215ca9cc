// Quantised activations (kQ16Act, kQ8Act), as quantize_rows writes and matmul reads them.
#ifndef PREGATE_KERNELS_QUANT_ACTIVATIONS_H_
#define PREGATE_KERNELS_QUANT_ACTIVATIONS_H_

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <limits>

#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/kernels.h"
#include "kernels/tensor.h"

namespace pregate {

// The largest quant of two bytes, which both stay in [-127, 127], and of one.
inline constexpr int kMaxQ16 = 127 * 256;
inline constexpr int kMaxQ8 = 127;

// 32 elements of one row: x ~= scale * q, where q = 256 * high + low (kQ16Act) or q = high (kQ8Act,
// which leaves `low` alone).
struct ActivationGroup {
  int8_t high[32];
  int8_t low[32];
  float scale;
  float scaled_sum;  // scale * sum of q
  // -n * sum of q: what takes the offset n of unsigned weights out of a dot product; for 32, of
  // each half of the elements.
  int32_t minus8;
  int32_t minus16;
  int32_t minus128;
  int32_t minus32[2];

  int Quant(DType dtype, int i) const {
    return dtype == DType::kQ16Act ? 256 * high[i] + low[i] : high[i];
  }
};
static_assert(sizeof(ActivationGroup) == 92);

// What the quants of a group whose largest element has the size `largest` are multiplied by, if
// the largest quant is `limit`, and its inverse. Both are zero for what is too small (1e-34) to
// have an inverse: it counts as zero.
struct ActivationScale {
  float scale;
  float inverse;
};
inline ActivationScale ScaleFor(float largest, int limit) {
  const float inverse = static_cast<float>(limit) / largest;
  if (inverse > std::numeric_limits<float>::max()) return {0.0f, 0.0f};
  return {largest / static_cast<float>(limit), inverse};
}

// A quant as its two bytes. Byte products of signed weights cannot take -128, so a low byte that
// would have to be -128 is -127: the quant is one step larger.
struct Q16Bytes {
  int high;
  int low;
};
inline Q16Bytes SplitQ16(int quant) {
  const int high = (quant + 128) >> 8;
  return {high, std::max(quant - 256 * high, -127)};
}

// Sets what follows from the quants' sums over each half of the elements and the scale.
inline void SetSums(int32_t first, int32_t second, ActivationGroup* group) {
  const int32_t sum = first + second;
  group->scaled_sum = group->scale * static_cast<float>(sum);
  group->minus8 = -8 * sum;
  group->minus16 = -16 * sum;
  group->minus128 = -128 * sum;
  group->minus32[0] = -32 * first;
  group->minus32[1] = -32 * second;
}

// Rows of a matrix of activations, cut into blocks of nearly equal height: those that a tile of
// weights meets at once.
class RowBlocks {
 public:
  RowBlocks(int64_t rows, int64_t most) : rows_(rows) {
    const int64_t blocks = std::max<int64_t>(1, (rows + most - 1) / most);
    height_ = std::max<int64_t>(1, (rows + blocks - 1) / blocks);
  }
  int64_t count() const { return (rows_ + height_ - 1) / height_; }
  int64_t height() const { return height_; }  // of every block but perhaps the last
  int64_t Begin(int64_t block) const { return block * height_; }
  int Height(int64_t block) const {
    return static_cast<int>(std::min(height_, rows_ - block * height_));
  }

 private:
  int64_t rows_;
  int64_t height_;
};

// Quantises 32 elements at x of each of `rows` rows, which are `stride` bytes apart.
using GroupQuantizer = void (*)(const float* x, int64_t stride, int rows, ActivationGroup* out);

// Kernels::quantize_rows, group by group on the device's threads, with the one that makes kQ16Act
// or the one that makes kQ8Act.
void RunQuantize(Device& device, GroupQuantizer q16, GroupQuantizer q8,
                 absl::Span<const Quantization> matrices);

// Rows of one block at most: a tile's accumulators for them stay in the level-1 cache.
inline constexpr int kMaxBlockRows = 64;

// A kQ16Act or kQ8Act matrix [rows, cols]: the groups of a block of rows stand together, [cols /
// 32][rows of the block], so that a tile reads them from first to last.
class ActivationMatrix {
 public:
  explicit ActivationMatrix(ConstTensor x)
      : groups_(const_cast<ActivationGroup*>(x.Row<ActivationGroup>(0))),
        depth_(x.cols / 32),
        blocks_(x.rows, MaxHeight(depth_)) {
    assert((x.dtype == DType::kQ16Act || x.dtype == DType::kQ8Act) && x.cols % 32 == 0);
    assert(reinterpret_cast<uintptr_t>(groups_) % alignof(ActivationGroup) == 0);
    assert(x.stride == RowBytes(x.dtype, x.cols) || x.rows <= 1);
  }

  int64_t depth() const { return depth_; }  // groups of a row
  const RowBlocks& blocks() const { return blocks_; }
  // The groups of a block.
  const ActivationGroup* Block(int64_t block) const {
    return groups_ + blocks_.Begin(block) * depth_;
  }
  ActivationGroup& Group(int64_t row, int64_t group) const {
    const int64_t block = row / blocks_.height();
    const int64_t first = blocks_.Begin(block);
    return groups_[first * depth_ + group * blocks_.Height(block) + row - first];
  }

 private:
  // A block stays within a share of a core's level-2 cache, which the weights pass through too.
  static int64_t MaxHeight(int64_t depth) {
    constexpr int64_t kMaxBytes = 384 << 10;
    const int64_t row_bytes = std::max<int64_t>(1, depth * sizeof(ActivationGroup));
    return std::clamp<int64_t>(kMaxBytes / row_bytes, 16, kMaxBlockRows);
  }

  ActivationGroup* groups_;
  int64_t depth_;
  RowBlocks blocks_;
};

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_ACTIVATIONS_H_
