// The likeliest tokens of each row of logits, and draws from a row: by sorting.
#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/logit_math.h"
#include "kernels/reference/reference.h"

namespace pregate::reference {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

size_t Place(int32_t id) { return static_cast<size_t>(id); }

// What the logits of a row count as.
std::vector<float> Counted(ConstTensor logits, int64_t r, int32_t vocab) {
  std::vector<float> row(logits.Row<float>(r), logits.Row<float>(r) + vocab);
  for (float& x : row) {
    x = std::isnan(x) ? kMinusInfinity : std::min(x, std::numeric_limits<float>::max());
  }
  return row;
}

// The `count` ids with the largest values, equal ones by ascending id.
std::vector<int32_t> Largest(const std::vector<float>& row, size_t count) {
  std::vector<int32_t> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  const auto end = order.begin() + static_cast<ptrdiff_t>(count);
  std::partial_sort(order.begin(), end, order.end(), [&](int32_t a, int32_t b) {
    return row[Place(a)] != row[Place(b)] ? row[Place(a)] > row[Place(b)] : a < b;
  });
  order.resize(count);
  return order;
}

double Sum(const std::vector<float>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

// What the tokens of a row weigh once the filters have been applied: 0 is what they do not keep.
std::vector<float> KeptWeights(const std::vector<float>& row, float largest,
                               const TokenDraw& draw) {
  std::vector<float> weights;
  for (const float logit : row) weights.push_back(LogitWeight(logit, largest, draw.scale));
  const auto keep = [&weights](const std::vector<int32_t>& ids) {
    std::vector<float> kept(weights.size(), 0.0f);
    for (const int32_t id : ids) kept[Place(id)] = weights[Place(id)];
    weights = std::move(kept);
  };
  if (draw.top_k > 0 && Place(draw.top_k) < row.size()) keep(Largest(row, Place(draw.top_k)));
  if (draw.top_p < 1.0f) {
    const double share = double{draw.top_p} * Sum(weights);
    std::vector<int32_t> order = Largest(weights, weights.size());
    double sum = 0;
    size_t count = 0;
    while (count < order.size() && sum < share) sum += weights[Place(order[count++])];
    order.resize(count);
    keep(order);
  }
  for (float& weight : weights) weight = weight < draw.min_p ? 0.0f : weight;
  return weights;
}

}  // namespace

void Likeliest(Device&, ConstTensor logits, int32_t vocab, int32_t k, int32_t* ids, float* values,
               double* totals) {
  assert(vocab >= 1 && vocab <= kMaxLikeliestVocab && logits.cols >= vocab);
  assert(k >= 1 && k <= kMaxLikeliest);
  for (int64_t r = 0; r < logits.rows; ++r, ids += k, values += k) {
    const std::vector<float> row = Counted(logits, r, vocab);
    const std::vector<int32_t> found = Largest(row, Place(std::min(k, vocab)));
    for (int32_t j = 0; j < k; ++j) {
      ids[j] = j < vocab ? found[Place(j)] : -1;
      values[j] = j < vocab ? row[Place(ids[j])] : kMinusInfinity;
    }
    if (totals == nullptr) continue;
    totals[r] = 0;
    if (values[0] == kMinusInfinity) continue;
    for (const float logit : row) totals[r] += LogitWeight(logit, values[0], WeightScale(1.0f));
  }
}

void GatherLogits(Device&, ConstTensor logits, absl::Span<const LogitPlace> places, float* values) {
  for (const LogitPlace& place : places) *values++ = logits.Row<float>(place.row)[place.id];
}

void EditLogits(Device&, Tensor logits, absl::Span<const LogitEdit> edits) {
  for (const LogitEdit& edit : edits) {
    float& logit = logits.Row<float>(edit.place.row)[edit.place.id];
    logit = EditedLogit(logit, edit);
  }
}

void DrawTokens(Device&, ConstTensor logits, int32_t vocab, absl::Span<const TokenDraw> draws,
                int32_t* ids, float* values) {
  assert(vocab >= 1 && vocab <= kMaxLikeliestVocab && logits.cols >= vocab);
  for (const TokenDraw& draw : draws) {
    assert(draw.top_k >= 0 && draw.top_k <= kMaxLikeliest);
    const std::vector<float> row = Counted(logits, draw.row, vocab);
    const float largest = *std::max_element(row.begin(), row.end());
    int32_t drawn = 0;
    if (largest > kMinusInfinity) {
      const std::vector<float> weights = KeptWeights(row, largest, draw);
      const double bound = draw.uniform * Sum(weights);
      double sum = 0;
      for (int32_t id = 0; id < vocab && sum <= bound; ++id) {
        if (weights[Place(id)] > 0) drawn = id;
        sum += weights[Place(id)];
      }
    }
    *ids++ = drawn;
    *values++ = row[Place(drawn)];
  }
}

}  // namespace pregate::reference
