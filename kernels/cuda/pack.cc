// Weights from the form of a file to that of weight_forms.h: on the host, in pieces that are copied
// to the device.
#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <vector>

#include "kernels/cuda/entries.h"
#include "kernels/cuda/weight_forms.h"
#include "kernels/quant/unpack.h"

namespace pregate::cuda {
namespace {

constexpr int64_t kPieceBytes = 4 << 20;

// --- Scales: block b gives row g + 8 i of a tile those of one of its groups. ---

void Put(uint16_t half, char* to) { std::memcpy(to, &half, sizeof(half)); }

template <typename Block>
void PutScales(const Block& b, int /*group*/, int g, int i, char* scales, char* /*super*/) {
  Put(b.d, scales + g * 8 + i * 2);
}
template <typename Block>
void PutWithMinimum(const Block& b, int g, int i, char* scales) {
  Put(b.d, scales + g * 16 + i * 2);
  Put(b.m, scales + g * 16 + 8 + i * 2);
}
void PutScales(const BlockQ4_1& b, int /*group*/, int g, int i, char* scales, char* /*super*/) {
  PutWithMinimum(b, g, i, scales);
}
void PutScales(const BlockQ5_1& b, int /*group*/, int g, int i, char* scales, char* /*super*/) {
  PutWithMinimum(b, g, i, scales);
}
template <typename Block>
void PutSuper(const Block& b, int group, int g, int i, char* scales, char* super) {
  const ScaleMin packed = UnpackScaleMin(b.scales, group);
  scales[g * 8 + i] = static_cast<char>(packed.scale);
  scales[g * 8 + 4 + i] = static_cast<char>(packed.min);
  Put(b.d, super + g * 16 + i * 2);
  Put(b.dmin, super + g * 16 + 8 + i * 2);
}
void PutScales(const BlockQ4_K& b, int group, int g, int i, char* scales, char* super) {
  PutSuper(b, group, g, i, scales, super);
}
void PutScales(const BlockQ5_K& b, int group, int g, int i, char* scales, char* super) {
  PutSuper(b, group, g, i, scales, super);
}
void PutScales(const BlockQ6_K& b, int group, int g, int i, char* scales, char* super) {
  scales[g * 8 + i] = static_cast<char>(b.scales[2 * group]);
  scales[g * 8 + 4 + i] = static_cast<char>(b.scales[2 * group + 1]);
  Put(b.d, super + g * 8 + i * 2);
}

void PutScales(const BlockF8& b, int /*group*/, int g, int i, char* scales, char* /*super*/) {
  const float d = b.d * 256.0f;
  std::memcpy(scales + g * 16 + i * 4, &d, sizeof(d));
}

// --- Quants. ---

// Quants of row g + 8 i into a record.
template <int kBits>
void PutQuants(const uint8_t* q, int g, int i, char* record) {
  constexpr int kSixteen = kBits == 6 ? 2 : 1;  // parts of a chunk that have scales of their own
  constexpr int kRun = kLaneColumns / kSixteen;
  for (int t = 0; t < 4; ++t) {
    const int lane = g * 4 + t;
    uint8_t own[kLaneColumns];
    for (int j = 0; j < kLaneColumns; ++j) own[j] = q[j / kRun * 16 + t * kRun + j % kRun];
    if constexpr (kBits == 8) {
      std::memcpy(record + i / 2 * 512 + lane * 16 + i % 2 * 8, own, sizeof(own));
    } else {
      uint32_t low = 0, high = 0;
      for (int j = 0; j < kLaneColumns; ++j) {
        const int odd = 16 * (j % 2);
        low |= uint32_t{own[j] & 15u} << (odd + 4 * (j / 2));
        const uint32_t rest = own[j] >> 4;
        high |= rest << (odd + (kBits == 6 ? 8 * (i % 2) + 2 * (j / 2) : 4 * i + j / 2));
      }
      std::memcpy(record + lane * 16 + i * 4, &low, sizeof(low));
      if constexpr (kBits > 4) {
        char* const at = record + 512 + (kBits == 6 ? lane * 8 + i / 2 * 4 : lane * 4);
        uint32_t word;  // rows share it
        std::memcpy(&word, at, sizeof(word));
        word |= high;
        std::memcpy(at, &word, sizeof(word));
      }
    }
  }
}

// One tile into memory of zeros: rows that the weight does not have stay zeros, with scales of
// zero.
template <DType kType, typename Block>
void PackTile(ConstTensor weight, int64_t tile, char* records, char* super) {
  constexpr QuantForm kForm = QuantFormOf(kType);
  const int groups = GetDTypeInfo(kType).block_elements / kChunkColumns;
  const int64_t chunks = weight.cols / kChunkColumns;
  const auto rows = static_cast<int>(std::min<int64_t>(kTileRows, weight.rows - tile * kTileRows));
  for (int r = 0; r < rows; ++r) {
    const int g = r % 8, i = r / 8;
    const char* const row = weight.Row<char>(tile * kTileRows + r);
    Block block;  // a copy: blocks in a file are not aligned
    for (int64_t c = 0; c < chunks; ++c) {
      const auto group = static_cast<int>(c % groups);
      if (group == 0) std::memcpy(&block, row + c / groups * int64_t{sizeof(Block)}, sizeof(Block));
      uint8_t q[kChunkColumns];
      UnpackQuants(block, group, q);
      char* const record = records + c * RecordBytes(kForm);
      PutQuants<kForm.bits>(q, g, i, record);
      PutScales(block, group, g, i, record + ScalesAt(kForm), super + c / 8 * SuperBytes(kForm));
    }
  }
}

template <DType kType, typename Block>
void PackTiles(Device& device, ConstTensor weight, char* out) {
  constexpr QuantForm kForm = QuantFormOf(kType);
  const int64_t tiles = TilesOf(weight.rows), chunks = weight.cols / kChunkColumns;
  const int64_t record_bytes = chunks * RecordBytes(kForm);  // of a tile
  const int64_t super_bytes = chunks / 8 * SuperBytes(kForm);
  const int64_t most = std::clamp<int64_t>(kPieceBytes / record_bytes, 1, tiles);
  std::vector<char> records, super;
  for (int64_t first = 0; first < tiles; first += most) {
    const int64_t count = std::min(most, tiles - first);
    records.assign(static_cast<size_t>(count * record_bytes), 0);
    super.assign(static_cast<size_t>(count * super_bytes), 0);
    device.ParallelFor(count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        PackTile<kType, Block>(weight, first + i, records.data() + i * record_bytes,
                               super.data() + i * super_bytes);
      }
    });
    device.CopyToDevice(out + first * record_bytes, records.data(), records.size());
    device.CopyToDevice(out + tiles * record_bytes + first * super_bytes, super.data(),
                        super.size());
  }
}

// --- Plain types. ---

uint16_t BitsAt(ConstTensor weight, int64_t row, int64_t k) {
  uint16_t bits;  // rows of a file are not aligned
  std::memcpy(&bits, weight.Row<char>(row) + 2 * k, sizeof(bits));
  return bits;
}

// The power of two by which a kBF16 matrix is multiplied, see weight_forms.h.
int BF16Exponent(Device& device, ConstTensor weight) {
  std::vector<uint16_t> largest(static_cast<size_t>(weight.rows), 0);
  device.ParallelFor(weight.rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      uint16_t most = 0;
      for (int64_t k = 0; k < weight.cols; ++k) {
        const auto magnitude = static_cast<uint16_t>(BitsAt(weight, r, k) & 0x7FFF);
        if (magnitude < 0x7F80) most = std::max(most, magnitude);  // finite
      }
      largest[static_cast<size_t>(r)] = most;
    }
  });
  const int biased = *std::max_element(largest.begin(), largest.end()) >> 7;
  const int exponent = std::max(biased, 1) - 127;  // the largest is below 2^(exponent + 1)
  const bool usual = biased == 0 || (exponent >= -7 && exponent < 7);
  // Its inverse must be a normal float.
  return usual ? kUsualBF16Exponent : std::min(14 - exponent, 126);
}

void PackPlain(Device& device, ConstTensor weight, char* out) {
  const bool scaled = weight.dtype == DType::kBF16;
  const int exponent = scaled ? BF16Exponent(device, weight) : 0;
  const float multiplier = std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
  const auto width = static_cast<size_t>(weight.cols * PlainBytes(weight.dtype));
  const int64_t row_bytes = PlainRowsBytes(weight.dtype, 1, weight.cols);
  const int64_t most = std::clamp<int64_t>(kPieceBytes / row_bytes, 1, weight.rows);
  std::vector<char> piece;
  for (int64_t first = 0; first < weight.rows; first += most) {
    const int64_t count = std::min(most, weight.rows - first);
    piece.assign(static_cast<size_t>(count * row_bytes), 0);
    device.ParallelFor(count, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        char* const row = piece.data() + i * row_bytes;
        if (!scaled) {
          std::memcpy(row, weight.Row<char>(first + i), width);
          continue;
        }
        for (int64_t k = 0; k < weight.cols; ++k) {
          const float value = BFloat16ToFloat(BitsAt(weight, first + i, k));
          Put(FloatToHalf(value * multiplier), row + 2 * k);
        }
      }
    });
    device.CopyToDevice(out + first * row_bytes, piece.data(), piece.size());
  }
  if (scaled) {
    const float factor = 1.0f / multiplier;
    device.CopyToDevice(out + weight.rows * row_bytes, &factor, sizeof(factor));
  }
}

}  // namespace

int64_t PackedBytes(DType dtype, int64_t rows, int64_t cols) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
      return PlainRowsBytes(dtype, rows, cols);
    case DType::kBF16:
      return PlainRowsBytes(dtype, rows, cols) + 16;
    case DType::kI32:
    case DType::kQ16Act:
    case DType::kQ8Act:
    case DType::kQ13:
    case DType::kF8E4M3:
      return 0;
    default: {
      const QuantForm form = QuantFormOf(dtype);
      const int64_t chunks = cols / kChunkColumns;
      return TilesOf(rows) * (chunks * RecordBytes(form) + chunks / 8 * SuperBytes(form));
    }
  }
}

void Pack(Device& device, ConstTensor weight, bool /*by_tiles*/, void* out) {
  char* const to = static_cast<char*>(out);
  switch (weight.dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      return PackPlain(device, weight, to);
    case DType::kQ8_0:
      return PackTiles<DType::kQ8_0, BlockQ8_0>(device, weight, to);
    case DType::kQ4_0:
      return PackTiles<DType::kQ4_0, BlockQ4_0>(device, weight, to);
    case DType::kQ4_1:
      return PackTiles<DType::kQ4_1, BlockQ4_1>(device, weight, to);
    case DType::kQ5_0:
      return PackTiles<DType::kQ5_0, BlockQ5_0>(device, weight, to);
    case DType::kQ5_1:
      return PackTiles<DType::kQ5_1, BlockQ5_1>(device, weight, to);
    case DType::kQ4_K:
      return PackTiles<DType::kQ4_K, BlockQ4_K>(device, weight, to);
    case DType::kQ5_K:
      return PackTiles<DType::kQ5_K, BlockQ5_K>(device, weight, to);
    case DType::kQ6_K:
      return PackTiles<DType::kQ6_K, BlockQ6_K>(device, weight, to);
    case DType::kF8Blocks:
      return PackTiles<DType::kF8Blocks, BlockF8>(device, weight, to);
    case DType::kI32:
    case DType::kQ16Act:
    case DType::kQ8Act:
    case DType::kQ13:
    case DType::kF8E4M3:
      break;
  }
  assert(false && "not a type that this table multiplies by");
}

}  // namespace pregate::cuda
