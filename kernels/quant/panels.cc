#include "kernels/quant/panels.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "kernels/quant/unpack.h"
#include "kernels/quant/wide.h"

namespace pregate {
namespace {

// The parts of a panel, for the quants q[0, 32) of one row.
template <int kLanes>
void SetNibbles(const uint8_t* q, int lane, Nibbles<kLanes>& out) {
  for (int c = 0; c < 4; ++c) {
    uint32_t word = 0;
    for (int i = 0; i < 4; ++i) {
      const uint32_t byte = (q[4 * c + i] & 15u) | (q[16 + 4 * c + i] & 15u) << 4;
      word |= byte << 8 * i;
    }
    out[c][lane] = word;
  }
}
template <int kLanes>
void SetFifthBits(const uint8_t* q, int lane, FifthBits<kLanes>& out) {
  uint32_t word = 0;
  for (int k = 0; k < 32; ++k) word |= (q[k] >> 4 & 1u) << (8 * (k % 4) + k / 4);
  out[lane] = word;
}
template <int kLanes>
void SetSixthBits(const uint8_t* q, int lane, SixthBits<kLanes>& out) {
  for (int h = 0; h < 2; ++h) {
    uint32_t word = 0;
    for (int k = 0; k < 16; ++k) word |= (q[16 * h + k] >> 4 & 3u) << (8 * (k % 4) + 2 * (k / 4));
    out[h][lane] = word;
  }
}

// SetLane: one row's block into its lane of the panel's block.
template <int kLanes>
void SetLane(const BlockQ8_0& b, int lane, PanelQ8_0<kLanes>* out) {
  uint8_t q[32];
  UnpackQuants(b, 0, q);
  for (int c = 0; c < 8; ++c) std::memcpy(&out->quants[c][lane], q + 4 * c, 4);
  out->d[lane] = b.d;
}
template <int kLanes>
void SetLane(const BlockQ4_0& b, int lane, PanelQ4_0<kLanes>* out) {
  uint8_t q[32];
  UnpackQuants(b, 0, q);
  SetNibbles<kLanes>(q, lane, out->nibbles);
  out->d[lane] = b.d;
}
template <int kLanes>
void SetLane(const BlockQ4_1& b, int lane, PanelQ4_1<kLanes>* out) {
  uint8_t q[32];
  UnpackQuants(b, 0, q);
  SetNibbles<kLanes>(q, lane, out->nibbles);
  out->d[lane] = b.d;
  out->m[lane] = b.m;
}
template <int kLanes>
void SetLane(const BlockQ5_0& b, int lane, PanelQ5_0<kLanes>* out) {
  uint8_t q[32];
  UnpackQuants(b, 0, q);
  SetNibbles<kLanes>(q, lane, out->nibbles);
  SetFifthBits<kLanes>(q, lane, out->fifth);
  out->d[lane] = b.d;
}
template <int kLanes>
void SetLane(const BlockQ5_1& b, int lane, PanelQ5_1<kLanes>* out) {
  uint8_t q[32];
  UnpackQuants(b, 0, q);
  SetNibbles<kLanes>(q, lane, out->nibbles);
  SetFifthBits<kLanes>(q, lane, out->fifth);
  out->d[lane] = b.d;
  out->m[lane] = b.m;
}
// What Q4_K and Q5_K have in common.
template <typename Block, typename Panel>
void SetScales(const Block& b, int lane, Panel* out) {
  out->d[lane] = b.d;
  out->dmin[lane] = b.dmin;
  for (int g = 0; g < 8; ++g) {
    const ScaleMin packed = UnpackScaleMin(b.scales, g);
    out->scale[g][lane] = packed.scale;
    out->min[g][lane] = packed.min;
  }
}
template <int kLanes>
void SetLane(const BlockQ4_K& b, int lane, PanelQ4_K<kLanes>* out) {
  SetScales(b, lane, out);
  for (int g = 0; g < 8; ++g) {
    uint8_t q[32];
    UnpackQuants(b, g, q);
    SetNibbles<kLanes>(q, lane, out->nibbles[g]);
  }
}
template <int kLanes>
void SetLane(const BlockQ5_K& b, int lane, PanelQ5_K<kLanes>* out) {
  SetScales(b, lane, out);
  for (int g = 0; g < 8; ++g) {
    uint8_t q[32];
    UnpackQuants(b, g, q);
    SetNibbles<kLanes>(q, lane, out->group[g].nibbles);
    SetFifthBits<kLanes>(q, lane, out->group[g].fifth);
  }
}
template <int kLanes>
void SetLane(const BlockQ6_K& b, int lane, PanelQ6_K<kLanes>* out) {
  out->d[lane] = b.d;
  for (int i = 0; i < 16; ++i) out->scale[i][lane] = b.scales[i];
  for (int g = 0; g < 8; ++g) {
    uint8_t q[32];
    UnpackQuants(b, g, q);
    SetNibbles<kLanes>(q, lane, out->group[g].nibbles);
    SetSixthBits<kLanes>(q, lane, out->group[g].sixth);
  }
}
template <int kLanes>
void SetLane(const BlockF8& b, int lane, PanelF8<kLanes>* out) {
  for (int i = 0; i < 32; ++i) out->q[i][lane] = b.q[i];
  out->d[lane] = b.d;
}
template <int kLanes>
void SetLane(uint32_t bits, int lane, Panel32<kLanes>* out) {
  out->bits[lane] = bits;
}
template <int kLanes>
void SetLane(uint16_t bits, int lane, Panel16<kLanes>* out) {
  out->bits[lane] = bits;
}

// Panel number `index` of a weight, each 32 columns `step` times 32 columns behind the last.
template <int kLanes, typename Block, typename Panel>
void PackPanel(ConstTensor weight, int64_t index, int64_t step, void* out) {
  Panel* const panel = static_cast<Panel*>(out);
  const int64_t block_elements = GetDTypeInfo(weight.dtype).block_elements;
  const int64_t blocks = weight.cols / block_elements;
  const int64_t of_tile = std::max<int64_t>(1, 32 / block_elements);
  for (int lane = 0; lane < kLanes; ++lane) {
    const int64_t row = std::min(index * kLanes + lane, weight.rows - 1);
    const char* source = weight.Row<char>(row);
    for (int64_t i = 0; i < blocks; ++i, source += sizeof(Block)) {
      Block block;  // a copy: blocks in a file are not aligned
      std::memcpy(&block, source, sizeof(Block));
      SetLane<kLanes>(block, lane, panel + i / of_tile * of_tile * step + i % of_tile);
    }
  }
}

struct PanelFormat {
  int64_t block_bytes;  // of a block of every row
  void (*pack)(ConstTensor weight, int64_t index, int64_t step, void* out);
};
template <int kLanes, typename Block, typename Panel>
PanelFormat Format() {
  static_assert(sizeof(Panel) >= kLanes * sizeof(Block));
  static_assert(100 * sizeof(Panel) <= 103 * kLanes * sizeof(Block));
  return {sizeof(Panel), PackPanel<kLanes, Block, Panel>};
}

template <int kLanes>
PanelFormat FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return Format<kLanes, uint32_t, Panel32<kLanes>>();
    case DType::kF16:
    case DType::kBF16:
      return Format<kLanes, uint16_t, Panel16<kLanes>>();
    case DType::kQ8_0:
      return Format<kLanes, BlockQ8_0, PanelQ8_0<kLanes>>();
    case DType::kQ4_0:
      return Format<kLanes, BlockQ4_0, PanelQ4_0<kLanes>>();
    case DType::kQ4_1:
      return Format<kLanes, BlockQ4_1, PanelQ4_1<kLanes>>();
    case DType::kQ5_0:
      return Format<kLanes, BlockQ5_0, PanelQ5_0<kLanes>>();
    case DType::kQ5_1:
      return Format<kLanes, BlockQ5_1, PanelQ5_1<kLanes>>();
    case DType::kQ4_K:
      return Format<kLanes, BlockQ4_K, PanelQ4_K<kLanes>>();
    case DType::kQ5_K:
      return Format<kLanes, BlockQ5_K, PanelQ5_K<kLanes>>();
    case DType::kQ6_K:
      return Format<kLanes, BlockQ6_K, PanelQ6_K<kLanes>>();
    case DType::kF8Blocks:
      return Format<kLanes, BlockF8, PanelF8<kLanes>>();
    case DType::kI32:
    case DType::kQ16Act:
    case DType::kQ8Act:
    case DType::kQ13:  // see wide.h
    case DType::kF8E4M3:
      break;
  }
  return {0, nullptr};
}
PanelFormat FormatOf(DType dtype, int lanes) {
  assert(lanes == 8 || lanes == 16);
  return lanes == 8 ? FormatOf<8>(dtype) : FormatOf<16>(dtype);
}

int64_t NumPanels(int64_t rows, int lanes) { return (rows + lanes - 1) / lanes; }

template <int kLanes>
int64_t PackedBytes(DType dtype, int64_t rows, int64_t cols) {
  if (dtype == DType::kQ13) return WideBytes(rows, cols);
  return NumPanels(rows, kLanes) * PanelBytes(dtype, cols, kLanes);
}

template <int kLanes>
void Pack(Device& device, ConstTensor weight, bool by_tiles, void* out) {
  if (weight.dtype == DType::kQ13) return PackWide(device, weight, SetWidePairs, out);
  const PanelFormat format = FormatOf<kLanes>(weight.dtype);
  const int64_t panel_bytes = PanelBytes(weight.dtype, weight.cols, kLanes);
  const int64_t tile_bytes = PanelBytes(weight.dtype, 32, kLanes);
  const int64_t group = by_tiles ? GroupPanels(weight.rows, kLanes) : 1;
  device.ParallelFor(NumPanels(weight.rows, kLanes), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t offset = i / group * group * panel_bytes + i % group * tile_bytes;
      format.pack(weight, i, group, static_cast<char*>(out) + offset);
    }
  });
}

}  // namespace

int64_t PanelBytes(DType dtype, int64_t cols, int lanes) {
  return cols / GetDTypeInfo(dtype).block_elements * FormatOf(dtype, lanes).block_bytes;
}

// As many as may be, all groups alike, and at least two where there are two panels.
int64_t GroupPanels(int64_t rows, int lanes) {
  const int64_t panels = NumPanels(rows, lanes);
  int64_t group = std::max<int64_t>(1, std::min<int64_t>(kMaxGroupRows / lanes, panels / 2));
  while (panels % group != 0) --group;
  return group;
}

void PackPanels(Device& device, int lanes, ConstTensor weight, bool by_tiles, void* out) {
  lanes == 8 ? Pack<8>(device, weight, by_tiles, out) : Pack<16>(device, weight, by_tiles, out);
}

void FillPanels(int lanes, Kernels* table) {
  assert(lanes == 8 || lanes == 16);
  table->packed_bytes = lanes == 8 ? PackedBytes<8> : PackedBytes<16>;
  table->pack = lanes == 8 ? Pack<8> : Pack<16>;
}

}  // namespace pregate
