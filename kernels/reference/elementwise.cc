#include <cassert>
#include <cmath>
#include <cstring>
#include <numbers>

#include "kernels/reference/reference.h"

namespace pregate::reference {
namespace {

double Activate(Activation activation, double x) {
  if (activation == Activation::kSilu) return x / (1.0 + std::exp(-x));
  if (activation == Activation::kRelu) return x > 0.0 ? x : 0.0;
  if (activation == Activation::kGelu) return x / 2 * std::erfc(-x / std::numbers::sqrt2);
  if (activation == Activation::kTanh) return std::tanh(x);
  // The tanh approximation of Hendrycks & Gimpel, "Gaussian Error Linear Units", section 2, as
  // (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u)), which does not cancel.
  const double u = std::numbers::sqrt2 * std::numbers::inv_sqrtpi * (x + 0.044715 * x * x * x);
  return x / (1.0 + std::exp(-2.0 * u));
}

}  // namespace

void RmsNorm(Device&, ConstTensor x, ConstTensor weight, float weight_offset, float eps,
             Tensor out) {
  assert(x.rows == out.rows && x.cols == out.cols && weight.cols == x.cols);
  const float* w = weight.Row<float>(0);
  for (int64_t r = 0; r < x.rows; ++r) {
    const float* in = x.Row<float>(r);
    float* result = out.Row<float>(r);
    double squares = 0;
    for (int64_t i = 0; i < x.cols; ++i) squares += double{in[i]} * in[i];
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.cols) + eps);
    for (int64_t i = 0; i < x.cols; ++i) {
      result[i] = static_cast<float>(in[i] * scale * (double{w[i]} + weight_offset));
    }
  }
}

void GatedActivation(Device&, Activation activation, absl::Span<const GatedRows> groups) {
  for (const auto& [gate, up, owned, out] : groups) {
    assert(gate.rows == out.rows && gate.cols == out.cols);
    assert(!up || (up.rows == out.rows && up.cols == out.cols));
    for (int64_t r = 0; r < out.rows; ++r) {
      for (int64_t i = 0; i < out.cols; ++i) {
        const double factor = up ? double{up.Row<float>(r)[i]} : 1.0;
        const bool counts =
            owned.empty() || (owned[static_cast<size_t>(i / 32)] >> i % 32 & 1) != 0;
        const double value = counts ? Activate(activation, gate.Row<float>(r)[i]) * factor : 0.0;
        out.Row<float>(r)[i] = static_cast<float>(value);
      }
    }
  }
}

void Add(Device&, ConstTensor a, ConstTensor b, Tensor out) {
  assert(a.rows == out.rows && b.rows == out.rows && a.cols == out.cols && b.cols == out.cols);
  for (int64_t r = 0; r < out.rows; ++r) {
    for (int64_t i = 0; i < out.cols; ++i) {
      out.Row<float>(r)[i] = a.Row<float>(r)[i] + b.Row<float>(r)[i];
    }
  }
}

void GatherRows(Device&, ConstTensor x, const int32_t* rows, Tensor out) {
  assert(x.cols == out.cols);
  for (int64_t i = 0; i < out.rows; ++i) {
    assert(rows[i] >= 0 && rows[i] < x.rows);
    std::memcpy(out.Row<float>(i), x.Row<float>(rows[i]),
                static_cast<size_t>(out.cols) * sizeof(float));
  }
}

}  // namespace pregate::reference
