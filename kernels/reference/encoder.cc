#include <algorithm>
#include <cassert>
#include <cmath>
#include <vector>

#include "kernels/reference/reference.h"

namespace pregate::reference {

void LayerNorm(Device&, ConstTensor x, ConstTensor residual, ConstTensor weight, ConstTensor bias,
               float eps, Tensor out) {
  assert(x.rows == out.rows && x.cols == out.cols && weight.cols == x.cols && bias.cols == x.cols);
  assert(!residual || (residual.rows == x.rows && residual.cols == x.cols));
  const double cols = static_cast<double>(x.cols);
  std::vector<double> y(static_cast<size_t>(x.cols));
  for (int64_t r = 0; r < x.rows; ++r) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      y[i] = double{x.Row<float>(r)[i]} + (residual ? residual.Row<float>(r)[i] : 0.0f);
      sum += y[i];
    }
    const double mean = sum / cols;
    for (const double element : y) squares += (element - mean) * (element - mean);
    const double scale = 1.0 / std::sqrt(squares / cols + eps);
    for (size_t i = 0; i < y.size(); ++i) {
      const double normed = (y[i] - mean) * scale * weight.Row<float>(0)[i];
      out.Row<float>(r)[i] = static_cast<float>(normed + bias.Row<float>(0)[i]);
    }
  }
}

namespace {

// One row and head, over rows [begin, end) of its sequence.
void AttendRow(const SelfAttention& call, int64_t row, int64_t begin, int64_t end, int64_t first,
               int64_t dim) {
  std::vector<double> weights;
  double max = -1e300;
  for (int64_t t = begin; t < end; ++t) {
    double score = 0;
    for (int64_t i = first; i < first + dim; ++i) {
      score += double{call.q.Row<float>(row)[i]} * call.k.Row<float>(t)[i];
    }
    weights.push_back(score * call.scale);
    max = std::max(max, weights.back());
  }
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - max);
  for (int64_t i = first; i < first + dim; ++i) {
    double mixed = 0;
    for (int64_t t = begin; t < end; ++t) {
      mixed += weights[static_cast<size_t>(t - begin)] * call.v.Row<float>(t)[i];
    }
    call.out.Row<float>(row)[i] = static_cast<float>(mixed / sum);
  }
}

}  // namespace

void SelfAttend(Device&, const SelfAttention& call) {
  const int64_t dim = call.out.cols / call.num_heads;
  for (size_t s = 0; s + 1 < call.row_start.size(); ++s) {
    for (int64_t row = call.row_start[s]; row < call.row_start[s + 1]; ++row) {
      for (int64_t head = 0; head < call.num_heads; ++head) {
        AttendRow(call, row, call.row_start[s], call.row_start[s + 1], head * dim, dim);
      }
    }
  }
}

}  // namespace pregate::reference
