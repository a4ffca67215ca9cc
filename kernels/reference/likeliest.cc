// The likeliest tokens of each row of logits.
#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/reference/reference.h"

namespace pregate::reference {

void Likeliest(Device&, ConstTensor logits, int32_t vocab, const float* inv_temperatures, int32_t k,
               int32_t* ids, float* values, float* totals) {
  assert(vocab >= 1 && vocab <= kMaxLikeliestVocab && logits.cols >= vocab);
  assert(k >= 1 && k <= kMaxLikeliest);
  assert((totals == nullptr) == (inv_temperatures == nullptr));
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  std::vector<float> row(static_cast<size_t>(vocab));
  std::vector<int32_t> order(row.size());
  const auto place = [&](int32_t id) { return static_cast<size_t>(id); };
  for (int64_t r = 0; r < logits.rows; ++r, ids += k, values += k) {
    std::transform(logits.Row<float>(r), logits.Row<float>(r) + vocab, row.begin(), [](float x) {
      return std::isnan(x) ? kMinusInfinity : std::min(x, std::numeric_limits<float>::max());
    });
    std::iota(order.begin(), order.end(), 0);
    const int32_t found = std::min(k, vocab);
    std::partial_sort(order.begin(), order.begin() + found, order.end(), [&](int32_t a, int32_t b) {
      return row[place(a)] != row[place(b)] ? row[place(a)] > row[place(b)] : a < b;
    });
    for (int32_t j = 0; j < k; ++j) {
      ids[j] = j < found ? order[place(j)] : -1;
      values[j] = j < found ? row[place(ids[j])] : kMinusInfinity;
    }
    if (totals == nullptr) continue;
    double total = 0;
    if (values[0] > kMinusInfinity) {
      for (const float logit : row) {
        total += std::exp((double{logit} - values[0]) * inv_temperatures[r]);
      }
    }
    totals[r] = static_cast<float>(total);
  }
}

}  // namespace pregate::reference
