// The quants and scales of the block formats (formats.h) as plain numbers.
#ifndef PREGATE_KERNELS_QUANT_UNPACK_H_
#define PREGATE_KERNELS_QUANT_UNPACK_H_

#include <cstdint>

#include "kernels/quant/formats.h"

namespace pregate {

inline void UnpackNibbles(const uint8_t* packed, uint8_t* out) {
  for (int i = 0; i < 16; ++i) {
    out[i] = packed[i] & 15;
    out[i + 16] = packed[i] >> 4;
  }
}
// Adds 16 to the elements whose bit is set.
inline void AddFifthBits(const uint8_t* bits, uint8_t* out) {
  for (int i = 0; i < 32; ++i)
    out[i] = static_cast<uint8_t>(out[i] | (bits[i / 8] >> i % 8 & 1) << 4);
}

// out[0, 32) = the quants of group `group` of a block, as stored: without sign, offset or scale
// (those of Q8_0 plus 128).
inline void UnpackQuants(const BlockQ8_0& b, int /*group*/, uint8_t* out) {
  for (int i = 0; i < 32; ++i) out[i] = static_cast<uint8_t>(b.q[i] + 128);
}
inline void UnpackQuants(const BlockF8& b, int /*group*/, uint8_t* out) {
  for (int i = 0; i < 32; ++i) out[i] = b.q[i];
}
inline void UnpackQuants(const BlockQ4_0& b, int /*group*/, uint8_t* out) {
  UnpackNibbles(b.q, out);
}
inline void UnpackQuants(const BlockQ4_1& b, int /*group*/, uint8_t* out) {
  UnpackNibbles(b.q, out);
}
inline void UnpackQuants(const BlockQ5_0& b, int /*group*/, uint8_t* out) {
  UnpackNibbles(b.q, out);
  AddFifthBits(b.high, out);
}
inline void UnpackQuants(const BlockQ5_1& b, int /*group*/, uint8_t* out) {
  UnpackNibbles(b.q, out);
  AddFifthBits(b.high, out);
}
inline void UnpackQuants(const BlockQ4_K& b, int group, uint8_t* out) {
  const uint8_t* q = b.q + group / 2 * 32;
  for (int i = 0; i < 32; ++i) out[i] = q[i] >> group % 2 * 4 & 15;
}
inline void UnpackQuants(const BlockQ5_K& b, int group, uint8_t* out) {
  const uint8_t* q = b.q + group / 2 * 32;
  for (int i = 0; i < 32; ++i) {
    const int low = q[i] >> group % 2 * 4 & 15;
    out[i] = static_cast<uint8_t>(low | (b.high[i] >> group & 1) << 4);
  }
}
inline void UnpackQuants(const BlockQ6_K& b, int group, uint8_t* out) {
  const int half = group / 4;
  const int quarter = group % 4;
  const uint8_t* low = b.low + half * 64 + quarter % 2 * 32;
  const uint8_t* high = b.high + half * 32;
  for (int i = 0; i < 32; ++i) {
    const int nibble = low[i] >> quarter / 2 * 4 & 15;
    out[i] = static_cast<uint8_t>(nibble | (high[i] >> quarter * 2 & 3) << 4);
  }
}

// The 6-bit scale and minimum of a group of a Q4_K or Q5_K block, see BlockQ4_K.
struct ScaleMin {
  uint8_t scale;
  uint8_t min;
};
inline ScaleMin UnpackScaleMin(const uint8_t* s, int g) {
  const auto pair = [](int scale, int min) {
    return ScaleMin{static_cast<uint8_t>(scale), static_cast<uint8_t>(min)};
  };
  if (g < 4) return pair(s[g] & 63, s[g + 4] & 63);
  return pair((s[g + 4] & 15) | s[g - 4] >> 6 << 4, s[g + 4] >> 4 | s[g] >> 6 << 4);
}

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_UNPACK_H_
