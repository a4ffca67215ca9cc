#include "engine/model/token_choice.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "engine/model/row_sweeps.h"
#include "kernels/logit_math.h"

namespace pregate {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

float Largest(const std::vector<float>& maxima) {
  return maxima.empty() ? kMinusInfinity : *std::max_element(maxima.begin(), maxima.end());
}

double Total(const std::vector<double>& sums) {
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

// body(i) for each value of a row that is `bound` or more, in order. `tops` are at least as large
// as what is in their blocks, so that most blocks need not be looked at.
template <typename Top, typename Body>
void ForEachAtLeast(absl::Span<const float> row, const std::vector<Top>& tops, float bound,
                    const Body& body) {
  for (size_t block = 0; block < tops.size(); ++block) {
    if (tops[block] < bound) continue;
    const size_t end = std::min((block + 1) * kRowBlock, row.size());
    for (size_t i = block * kRowBlock; i < end; ++i) {
      if (row[i] >= bound) body(i);
    }
  }
}

struct Candidate {
  float weight;  // proportional to the probability; the likeliest token of the row has 1
  int32_t id;
  float surprise = 0.0f;  // how far its information is from the entropy: typical_p's order
};

bool Likelier(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
}

double TotalWeight(const std::vector<Candidate>& candidates) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  return total;
}

// Keeps the shortest run of candidates, in the order `before`, that holds at least `share` of the
// mass `total`; at least one. The others stay in their order. Nothing is sorted: the run's end is
// found by halving.
template <typename Before>
void KeepShare(std::vector<Candidate>& candidates, double share, double total,
               const Before& before) {
  std::vector<Candidate> order = candidates;
  double mass = 0;  // of what is before `begin`; the run ends before `end`
  size_t begin = 0, end = order.size();
  while (end - begin > 1) {
    const size_t middle = begin + (end - begin) / 2;
    const auto at = [&](size_t i) { return order.begin() + static_cast<ptrdiff_t>(i); };
    std::nth_element(at(begin), at(middle), at(end), before);
    double half = 0;
    for (size_t i = begin; i < middle; ++i) half += order[i].weight;
    if (mass + half >= share * total) {
      end = middle;
    } else {
      mass += half;
      begin = middle;
    }
  }
  const Candidate last = order[begin];
  std::erase_if(candidates, [&](const Candidate& c) { return before(last, c); });
}

// Locally typical sampling (Meister et al. 2022, arXiv 2202.00666): tokens whose information is
// closest to the entropy come first.
void KeepTypical(std::vector<Candidate>& candidates, double typical_p) {
  const double total = TotalWeight(candidates);
  double mean = 0;  // of the weights' logarithms; the entropy is that of the total less this
  for (Candidate& c : candidates) {
    c.surprise = std::log(c.weight);
    mean += c.weight / total * c.surprise;
  }
  for (Candidate& c : candidates) {
    c.surprise = std::fabs(c.surprise - static_cast<float>(mean));
  }
  KeepShare(candidates, typical_p, total, [](const Candidate& a, const Candidate& b) {
    return a.surprise != b.surprise ? a.surprise < b.surprise : a.id < b.id;
  });
}

// Minimum probability, as a part of the likeliest candidate's (Nguyen et al. 2024, 2407.01082).
void KeepMinP(std::vector<Candidate>& candidates, float min_p) {
  const float largest = std::min_element(candidates.begin(), candidates.end(), Likelier)->weight;
  std::erase_if(candidates, [&](const Candidate& c) { return c.weight < min_p * largest; });
}

// A weight such that the tokens at or above it hold at least `share` of the mass `total`:
// candidates below it need not be looked at. A block's sum is never below what it holds.
float WeightBound(absl::Span<const float> weights, const std::vector<double>& sums, double share,
                  double total) {
  constexpr float kAny = std::numeric_limits<float>::min();
  if (share >= 1.0) return kAny;
  for (float bound = 0x1p-7f; bound > 0x1p-40f; bound *= 0x1p-7f) {
    double mass = 0;
    ForEachAtLeast(weights, sums, bound, [&](size_t i) { mass += weights[i]; });
    if (mass >= share * total) return bound;
  }
  return kAny;
}

// Candidates of a row that was weighed in place: at least those which the filters may keep, and
// not many more where the filters say so.
std::vector<Candidate> Candidates(absl::Span<const float> weights, const std::vector<double>& sums,
                                  double total, const SamplingParams& params) {
  const bool typical = params.typical_p < 1.0f;
  float bound = WeightBound(weights, sums, typical ? 1.0 : double{params.top_p}, total);
  // The likeliest token has weight 1. Of the others typical_p may keep the unlikely ones alone.
  if (!typical) bound = std::max(bound, params.min_p);
  std::vector<Candidate> candidates;
  ForEachAtLeast(weights, sums, bound, [&](size_t i) {
    candidates.push_back({.weight = weights[i], .id = static_cast<int32_t>(i)});
  });
  return candidates;
}

// The k largest logits, likeliest first. As many blocks as are wanted tokens have maxima of `bound`
// or more, so there are as many tokens.
std::vector<TokenLogprob> TopLogitsOf(absl::Span<const float> logits,
                                      const std::vector<float>& maxima, size_t k) {
  std::vector<TokenLogprob> top;
  if (k == 0) return top;
  float bound = kMinusInfinity;
  if (k <= maxima.size()) {
    std::vector<float> order = maxima;
    std::nth_element(order.begin(), order.begin() + (k - 1), order.end(), std::greater<>());
    bound = order[k - 1];
  }
  ForEachAtLeast(logits, maxima, bound, [&](size_t i) {
    top.push_back({static_cast<int32_t>(i), std::min(logits[i], kLargestFloat)});
  });
  const auto likelier = [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token_id < b.token_id;
  };
  if (k < top.size()) {
    std::nth_element(top.begin(), top.begin() + k, top.end(), likelier);
    top.resize(k);
  }
  std::sort(top.begin(), top.end(), likelier);
  return top;
}

// Tokens, likeliest first, as candidates by ascending id. What weighs nothing is left out.
std::vector<Candidate> Weighed(absl::Span<const TokenLogprob> top, float scale) {
  std::vector<Candidate> candidates;
  for (const TokenLogprob& token : top) {
    const float weight = LogitWeight(token.logprob, top[0].logprob, scale);
    if (weight > 0.0f) candidates.push_back({.weight = weight, .id = token.token_id});
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  return candidates;
}

// The first index with which the sum of the weights, from `begin` on, exceeds `mass`. Where `mass`
// was rounded up to the sum of all it is the last one that weighs anything.
template <typename Weights>
size_t PassingIndex(const Weights& weight, size_t begin, size_t end, double mass) {
  size_t last = begin;
  double sum = 0;
  for (size_t i = begin; i < end && sum <= mass; ++i) {
    sum += weight(i);
    if (weight(i) > 0) last = i;
  }
  return last;
}

// Draws from a row that was weighed in place: first the block, then the token.
int32_t DrawFromRow(absl::Span<const float> weights, const std::vector<double>& sums,
                    double uniform) {
  const double mass = uniform * Total(sums);
  const size_t block = PassingIndex([&](size_t b) { return sums[b]; }, 0, sums.size(), mass);
  const double before = std::accumulate(sums.begin(), sums.begin() + block, 0.0);
  const size_t first = block * kRowBlock;
  const size_t end = std::min(first + kRowBlock, weights.size());
  return static_cast<int32_t>(
      PassingIndex([&](size_t i) { return weights[i]; }, first, end, mass - before));
}

// Draws from what the other filters have left.
int32_t DrawAboveMinP(std::vector<Candidate>& candidates, float min_p, double uniform) {
  if (min_p > 0.0f) KeepMinP(candidates, min_p);
  const auto weight = [&](size_t i) { return candidates[i].weight; };
  const size_t drawn =
      PassingIndex(weight, 0, candidates.size(), uniform * TotalWeight(candidates));
  return candidates[drawn].id;
}

}  // namespace

void SanitizeLogits(absl::Span<float> logits) {
  for (float& logit : logits) {
    logit = logit == logit ? std::min(logit, std::numeric_limits<float>::max()) : kMinusInfinity;
  }
}

int32_t ArgMax(absl::Span<const float> logits) {
  const std::vector<float> maxima = BlockMaxima(logits);
  const float largest = Largest(maxima);
  const size_t block = std::find(maxima.begin(), maxima.end(), largest) - maxima.begin();
  for (size_t i = block * kRowBlock; i < logits.size(); ++i) {
    if (logits[i] >= largest) return static_cast<int32_t>(i);
  }
  return 0;  // nothing is a number
}

std::vector<TokenLogprob> TopLogits(absl::Span<const float> logits, int k) {
  assert(k >= 0);
  return TopLogitsOf(logits, BlockMaxima(logits), static_cast<size_t>(k));
}

double LogSumExp(absl::Span<const float> logits) {
  const float largest = Largest(BlockMaxima(logits));
  if (largest == kMinusInfinity) return kMinusInfinity;
  return double{largest} + std::log(Total(WeightSums(logits, largest, WeightScale(1.0f))));
}

int32_t DrawToken(absl::Span<float> logits, const SamplingParams& params, double uniform) {
  assert(params.temperature > 0.0f);
  const std::vector<float> maxima = BlockMaxima(logits);
  const float largest = Largest(maxima);
  if (largest == kMinusInfinity) return 0;
  const float scale = WeightScale(params.temperature);
  const bool typical = params.typical_p < 1.0f;
  std::vector<Candidate> candidates;
  double mass = 0;  // of the tokens that top_p is a share of
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < logits.size()) {
    candidates = Weighed(TopLogitsOf(logits, maxima, static_cast<size_t>(params.top_k)), scale);
    mass = TotalWeight(candidates);
  } else {
    const std::vector<double> sums = WeighInPlace(logits, largest, scale);
    if (!typical && params.top_p >= 1.0f && params.min_p <= 0.0f) {
      return DrawFromRow(logits, sums, uniform);
    }
    mass = Total(sums);
    candidates = Candidates(logits, sums, mass, params);
  }
  if (typical) {
    KeepTypical(candidates, params.typical_p);
    mass = TotalWeight(candidates);
  }
  if (params.top_p < 1.0f) KeepShare(candidates, params.top_p, mass, Likelier);
  return DrawAboveMinP(candidates, params.min_p, uniform);
}

}  // namespace pregate
