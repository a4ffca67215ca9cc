// The block layouts of the GGUF tensor types (ggml's `block_q*`), byte for byte as they lie in a
// file. Halves are raw bits. All multi-byte numbers are little endian.
#ifndef PREGATE_KERNELS_QUANT_FORMATS_H_
#define PREGATE_KERNELS_QUANT_FORMATS_H_

#include <cstdint>

namespace pregate {

// 32 elements: value = d * q.
struct BlockQ8_0 {
  uint16_t d;
  int8_t q[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

// 32 elements: value = d * (q - 8). Byte i holds element i (low nibble) and i + 16 (high).
struct BlockQ4_0 {
  uint16_t d;
  uint8_t q[16];
};
static_assert(sizeof(BlockQ4_0) == 18);

// 32 elements: value = d * q + m; nibbles as in Q4_0.
struct BlockQ4_1 {
  uint16_t d;
  uint16_t m;
  uint8_t q[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

// 32 elements: value = d * (q - 16); nibbles as in Q4_0, bit i of `high` is bit 4 of element i.
struct BlockQ5_0 {
  uint16_t d;
  uint8_t high[4];
  uint8_t q[16];
};
static_assert(sizeof(BlockQ5_0) == 22);

// 32 elements: value = d * q + m; bits as in Q5_0.
struct BlockQ5_1 {
  uint16_t d;
  uint16_t m;
  uint8_t high[4];
  uint8_t q[16];
};
static_assert(sizeof(BlockQ5_1) == 24);

// 256 elements in 8 groups of 32: value = d * scale[g] * q - dmin * min[g]. Bytes 32p .. 32p + 31
// of `q` hold group 2p (low nibbles) and 2p + 1 (high). The 6-bit scales and mins of groups 0-3 are
// the low six bits of bytes 0-3 and 4-7; those of groups 4-7 are the nibbles of bytes 8-11 with
// their top two bits in the top bits of bytes 0-3 (scales) and 4-7 (mins).
struct BlockQ4_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t q[128];
};
static_assert(sizeof(BlockQ4_K) == 144);

// As Q4_K with a fifth bit: bit g of high[i] belongs to element i of group g.
struct BlockQ5_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t high[32];
  uint8_t q[128];
};
static_assert(sizeof(BlockQ5_K) == 176);

// 256 elements in 16 groups of 16: value = d * scale[g] * (q - 32). Of each half of 128 elements,
// 64 bytes of `low` hold elements 0-63 in their low and 64-127 in their high nibbles; byte i of 32
// bytes of `high` holds two bits each for elements i, i + 32, i + 64 and i + 96.
struct BlockQ6_K {
  uint8_t low[128];
  uint8_t high[64];
  int8_t scales[16];
  uint16_t d;
};
static_assert(sizeof(BlockQ6_K) == 210);

// 128 elements: value = d * q, |q| <= 4095. Ours, see kQ13. So many products of two such quants fit
// an int32.
struct BlockQ13 {
  float d;
  int16_t q[128];
};
static_assert(sizeof(BlockQ13) == 260);
inline constexpr int kMaxQ13 = 4095;
static_assert(int64_t{kMaxQ13} * kMaxQ13 * 128 < int64_t{1} << 31);

// 32 elements: value = d * E4M3ToFloat(q). Ours, see kF8Blocks.
struct BlockF8 {
  float d;
  uint8_t q[32];
};
static_assert(sizeof(BlockF8) == 36);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_FORMATS_H_
