// Rotary position embeddings: Su et al., "RoFormer", section 3.4.2.
#include <cassert>
#include <cmath>

#include "kernels/reference/reference.h"

namespace pregate::reference {

void RopeTable(Device&, const int32_t* positions, const float* inv_freq, float magnitude,
               Tensor cos_sin) {
  for (int64_t r = 0; r < cos_sin.rows; ++r) {
    float* row = cos_sin.Row<float>(r);
    for (int64_t i = 0; i < cos_sin.cols / 2; ++i) {
      const double angle = double{inv_freq[i]} * positions[r];
      row[2 * i] = static_cast<float>(magnitude * std::cos(angle));
      row[2 * i + 1] = static_cast<float>(magnitude * std::sin(angle));
    }
  }
}

void Rope(Device&, Tensor x, int32_t head_dim, ConstTensor cos_sin, RopeStyle style) {
  assert(x.rows == cos_sin.rows && x.cols % head_dim == 0);
  assert(cos_sin.cols <= head_dim && cos_sin.cols % 2 == 0);
  const int64_t half = cos_sin.cols / 2;
  const bool halves = style == RopeStyle::kHalves;
  for (int64_t r = 0; r < x.rows; ++r) {
    const float* table = cos_sin.Row<float>(r);
    for (int64_t head = 0; head < x.cols / head_dim; ++head) {
      float* h = x.Row<float>(r) + head * head_dim;
      for (int64_t i = 0; i < half; ++i) {
        float& first = halves ? h[i] : h[2 * i];
        float& second = halves ? h[half + i] : h[2 * i + 1];
        const double cos = table[2 * i], sin = table[2 * i + 1];
        const double a = first, b = second;
        first = static_cast<float>(a * cos - b * sin);
        second = static_cast<float>(b * cos + a * sin);
      }
    }
  }
}

}  // namespace pregate::reference
