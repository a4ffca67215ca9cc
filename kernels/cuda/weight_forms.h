// The forms in which the CUDA table keeps weights, for what writes them (pack.cc) and what reads
// them (lane_weights.h).
//
// Plain types lie row by row, rows `PlainStride` elements apart, zeros behind their ends: kF32 as
// floats, kF16 as halves, kBF16 as halves as well, so that it can meet activations that are halves.
// A kBF16 matrix is multiplied by a power of two for that, whose inverse is a float behind the
// rows: elements keep all their 8 bits down to 2^-18 of the largest, and are off by 2^-26 of it at
// most below.
//
// Quantised types lie in tiles of 32 rows and, in each, chunks of 32 columns: a record of a tile
// and a chunk is what the lanes of one warp read at once, record behind record along the columns,
// tile behind tile. With g = lane / 4 and t = lane % 4 a lane owns rows g + 8 i of the tile (i < 4)
// and of each the columns 8 t + j (j < 8); where a scale covers only 16 columns (Q6_K) the columns
// 4 t + j (j < 4) and 16 + 4 t + j - 4. Those are rows of the left operand of two products of a
// tensor core (gpu.h, MmaHalves), whose columns are in this order: the other operand is then a
// plain matrix, of which each lane reads 8 elements in a row.
//
// A record: [lane][i] a word of the low four bits of 8 quants, element j at bit 16 (j % 2) + 4 (j /
// 2), so that two elements become two halves with few instructions; Q8_0, plus 128, and F8_BLOCKS
// have bytes instead, [i / 2][lane][i % 2][j]. Then the fifth bits, [lane] a word, at bit 16 (j %
// 2) + 4 i + j / 2; or bits five and six, [lane][i / 2] a word, at bit 16 (j % 2) + 8 (i % 2) + 2
// (j / 2). Then scales, rows g + 8 i beside each other:
//   Q4_0, Q5_0, Q8_0   [g][i] halves d
//   Q4_1, Q5_1         [g][d, m][i] halves
//   Q4_K, Q5_K         [g][scale, min][i] bytes
//   Q6_K               [g][first 16 columns, last 16][i] signed bytes
//   F8_BLOCKS          [g][i] floats d, times 256: the unit of what its bytes become as halves
// Behind all records stand, for each tile and 256 columns, [g][d, dmin][i] halves of Q4_K and Q5_K,
// [g][i] halves d of Q6_K.
#ifndef PREGATE_KERNELS_CUDA_WEIGHT_FORMS_H_
#define PREGATE_KERNELS_CUDA_WEIGHT_FORMS_H_

#include <cstdint>

#include "kernels/tensor.h"

namespace pregate::cuda {

inline constexpr int kTileRows = 32;
inline constexpr int kChunkColumns = 32;
inline constexpr int kLaneRows = 4;     // i
inline constexpr int kLaneColumns = 8;  // j

struct QuantForm {
  int bits = 0;          // of a quant; 0: the type is plain
  int offset = 0;        // value = d (q - offset), or d q + m
  bool minimum = false;  // the latter
  bool super = false;    // d and m are products of two numbers, one of them for 256 columns
  bool e4m3 = false;     // value = d E4M3(q)
};

PREGATE_HOST_DEVICE constexpr QuantForm QuantFormOf(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:
      return {8, 128, false, false};
    case DType::kQ4_0:
      return {4, 8, false, false};
    case DType::kQ4_1:
      return {4, 0, true, false};
    case DType::kQ5_0:
      return {5, 16, false, false};
    case DType::kQ5_1:
      return {5, 0, true, false};
    case DType::kQ4_K:
      return {4, 0, true, true};
    case DType::kQ5_K:
      return {5, 0, true, true};
    case DType::kQ6_K:
      return {6, 32, false, true};
    case DType::kF8Blocks:
      return {8, 0, false, false, true};
    default:
      return {};
  }
}

// Bytes from the start of a record to its parts, and of it all.
PREGATE_HOST_DEVICE constexpr int HighBitsAt(QuantForm form) { return form.bits == 8 ? 1024 : 512; }
PREGATE_HOST_DEVICE constexpr int ScalesAt(QuantForm form) {
  return HighBitsAt(form) + (form.bits == 5 ? 128 : form.bits == 6 ? 256 : 0);
}
PREGATE_HOST_DEVICE constexpr int RecordBytes(QuantForm form) {
  return ScalesAt(form) + ((form.minimum && !form.super) || form.e4m3 ? 128 : 64);
}
// Of the numbers for 256 columns of a tile.
PREGATE_HOST_DEVICE constexpr int SuperBytes(QuantForm form) {
  return !form.super ? 0 : form.minimum ? 128 : 64;
}

PREGATE_HOST_DEVICE constexpr int64_t RoundUpTo(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
PREGATE_HOST_DEVICE constexpr int64_t TilesOf(int64_t rows) {
  return (rows + kTileRows - 1) / kTileRows;
}
PREGATE_HOST_DEVICE constexpr int64_t ChunksOf(int64_t cols) {
  return (cols + kChunkColumns - 1) / kChunkColumns;
}

PREGATE_HOST_DEVICE constexpr int64_t PlainStride(int64_t cols) {
  return RoundUpTo(cols, kLaneColumns);
}
PREGATE_HOST_DEVICE constexpr int PlainBytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }
PREGATE_HOST_DEVICE constexpr int64_t PlainRowsBytes(DType dtype, int64_t rows, int64_t cols) {
  return rows * PlainStride(cols) * PlainBytes(dtype);
}

// What most kBF16 matrices are multiplied by: those whose largest element is in [2^-7, 2^7).
inline constexpr int kUsualBF16Exponent = 8;
inline constexpr float kUsualBF16Factor = 0x1p-8f;  // and the inverse

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_WEIGHT_FORMS_H_
