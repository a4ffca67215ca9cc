// A gate's choice and the sum of what the chosen experts give.
#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/reference/reference.h"

namespace pregate::reference {
namespace {

// Softmax: Mixtral (Jiang et al. 2024), section 2.1; sigmoid: DeepSeek-V3 (2024), equation 15.
std::vector<double> Scores(const std::vector<double>& logits, GateParams::Scoring scoring) {
  std::vector<double> scores(logits.size());
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (size_t e = 0; e < logits.size(); ++e) {
    const bool softmax = scoring == GateParams::Scoring::kSoftmax;
    scores[e] = softmax ? std::exp(logits[e] - largest) : 1.0 / (1.0 + std::exp(-logits[e]));
    sum += softmax ? scores[e] : 0.0;
  }
  if (scoring == GateParams::Scoring::kSoftmax) {
    for (double& score : scores) score /= sum;
  }
  return scores;
}

}  // namespace

void TopKGate(Device&, ConstTensor logits, ConstTensor shared_logits, const GateParams& params,
              int32_t* ids, float* weights) {
  assert(params.k >= 1 && params.k <= logits.cols);
  const int32_t per_row = params.k + (params.shared ? 1 : 0);
  for (int64_t r = 0; r < logits.rows; ++r, ids += per_row, weights += per_row) {
    std::vector<double> row(logits.Row<float>(r), logits.Row<float>(r) + logits.cols);
    for (double& logit : row) {
      if (std::isnan(logit)) logit = -std::numeric_limits<double>::infinity();
    }
    std::vector<int32_t> order(row.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)];
    });
    const std::vector<double> scores = Scores(row, params.scoring);
    double sum = 0;
    for (int32_t j = 0; j < params.k; ++j) {
      ids[j] = order[static_cast<size_t>(j)];
      sum += scores[static_cast<size_t>(ids[j])];
    }
    const double divisor = params.renormalize ? std::max(sum, 1e-20) : 1.0;
    for (int32_t j = 0; j < params.k; ++j) {
      const double score = scores[static_cast<size_t>(ids[j])];
      weights[j] = static_cast<float>(score / divisor * double{params.scale});
    }
    if (!params.shared) continue;
    ids[params.k] = static_cast<int32_t>(logits.cols);
    weights[params.k] =
        shared_logits
            ? static_cast<float>(1.0 / (1.0 + std::exp(-double{*shared_logits.Row<float>(r)})))
            : 1.0f;
  }
}

void CombineRows(Device&, ConstTensor y, const int32_t* positions, const float* weights, int32_t k,
                 Tensor out) {
  assert(y.cols == out.cols);
  for (int64_t r = 0; r < out.rows; ++r) {
    for (int64_t i = 0; i < out.cols; ++i) {
      double sum = 0;
      for (int64_t j = r * k; j < (r + 1) * k; ++j) {
        if (positions[j] == -1) continue;
        assert(positions[j] >= 0 && positions[j] < y.rows);
        const double weight = weights == nullptr ? 1.0 : double{weights[j]};
        sum += weight * double{y.Row<float>(positions[j])[i]};
      }
      out.Row<float>(r)[i] = static_cast<float>(sum);
    }
  }
}

}  // namespace pregate::reference
