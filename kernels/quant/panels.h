// Panels: the weights of kLanes rows of a matrix, interleaved, as a product streams them from first
// to last byte. Lane n of every array belongs to row n of the panel; a matrix is its panels, one
// after the other, the last one filled up with copies of the last row.
//
// A matrix that is packed by tiles has its panels in groups: the first 32 columns of each panel of
// a group, then the next 32 of each. Who picks tiles of columns reads longer runs so.
//
// A panel holds the numbers of the file's format (formats.h), only their order differs, so its size
// is that of the rows; Q4_K and Q5_K are 2 or 3 % larger, because their six-bit scales take a byte.
#ifndef PREGATE_KERNELS_QUANT_PANELS_H_
#define PREGATE_KERNELS_QUANT_PANELS_H_

#include <cstdint>

#include "kernels/device.h"
#include "kernels/kernels.h"
#include "kernels/tensor.h"

namespace pregate {

// The low four bits of 32 quants of each row: byte i of word [c][n] holds elements 4c + i (low
// nibble) and 16 + 4c + i (high) of row n.
template <int kLanes>
using Nibbles = uint32_t[4][kLanes];

// The fifth bits of 32 quants: bit 8i + c of word [n] is that of element 4c + i, for c < 8.
template <int kLanes>
using FifthBits = uint32_t[kLanes];

// Bits 4 and 5 of 32 quants: bits 8i + 2c and 8i + 2c + 1 of word [h][n] are those of element
// 16h + 4c + i, for c < 4.
template <int kLanes>
using SixthBits = uint32_t[2][kLanes];

// One block of each row. Halves are raw bits.
template <int kLanes>
struct PanelQ8_0 {
  uint32_t quants[8][kLanes];  // byte i of [c][n]: element 4c + i, plus 128
  uint16_t d[kLanes];
};
template <int kLanes>
struct PanelQ4_0 {
  Nibbles<kLanes> nibbles;
  uint16_t d[kLanes];
};
template <int kLanes>
struct PanelQ4_1 {
  Nibbles<kLanes> nibbles;
  uint16_t d[kLanes];
  uint16_t m[kLanes];
};
template <int kLanes>
struct PanelQ5_0 {
  Nibbles<kLanes> nibbles;
  FifthBits<kLanes> fifth;
  uint16_t d[kLanes];
};
template <int kLanes>
struct PanelQ5_1 {
  Nibbles<kLanes> nibbles;
  FifthBits<kLanes> fifth;
  uint16_t d[kLanes];
  uint16_t m[kLanes];
};
// The K formats: 8 groups of 32 elements.
template <int kLanes>
struct PanelQ4_K {
  uint16_t d[kLanes];
  uint16_t dmin[kLanes];
  uint8_t scale[8][kLanes];
  uint8_t min[8][kLanes];
  Nibbles<kLanes> nibbles[8];
};
template <int kLanes>
struct PanelQ5_K {
  uint16_t d[kLanes];
  uint16_t dmin[kLanes];
  uint8_t scale[8][kLanes];
  uint8_t min[8][kLanes];
  struct {
    Nibbles<kLanes> nibbles;
    FifthBits<kLanes> fifth;
  } group[8];
};
template <int kLanes>
struct PanelQ6_K {
  uint16_t d[kLanes];
  int8_t scale[16][kLanes];  // of each 16 elements
  struct {
    Nibbles<kLanes> nibbles;
    SixthBits<kLanes> sixth;
  } group[8];
};
template <int kLanes>
struct PanelF8 {
  uint8_t q[32][kLanes];
  float d[kLanes];
};
// One element of each row, of a plain type.
template <int kLanes>
struct Panel32 {
  uint32_t bits[kLanes];
};
template <int kLanes>
struct Panel16 {
  uint16_t bits[kLanes];
};

// Bytes of a panel whose rows have `cols` elements; 0 for types that are no weights. `lanes` is 8
// or 16 here and below.
int64_t PanelBytes(DType dtype, int64_t cols, int lanes);

// Rows of a group at most: their sums for a few rows of activations stay in the level-1 cache.
inline constexpr int kMaxGroupRows = 320;

// How many panels make a group of a matrix of `rows` rows that is packed by tiles.
int64_t GroupPanels(int64_t rows, int lanes);

// Kernels::pack for a table of panels of `lanes` rows; kQ13 as WidePanel.
void PackPanels(Device& device, int lanes, ConstTensor weight, bool by_tiles, void* out);

// Sets Kernels::packed_bytes and Kernels::pack to those of panels of `lanes` rows.
void FillPanels(int lanes, Kernels* table);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_PANELS_H_
