#include "engine/model/token_choice.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <limits>

namespace pregate {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// exp(x) for x <= 0, within 2 ulp; 0 below -87. Written without branches so that loops over it are
// vectorised: n = round(x / ln 2), a polynomial for e^(x - n ln 2), n added to the exponent.
inline float ExpNonPositive(float x) {
  const float clamped = std::max(x, -87.0f);
  constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
  const float shifted = clamped * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  // The Taylor series to r^7: |r| <= ln 2 / 2, so the rest is below 2^-27.
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float power = std::bit_cast<float>((std::bit_cast<int32_t>(shifted) << 23) + 0x3F800000);
  return x < -87.0f ? 0.0f : p * power;
}

// Sums body(i) for i in [0, count) in a fixed order: eight lanes, then the lanes.
template <typename Body>
double LaneSum(size_t count, const Body& body) {
  constexpr size_t kLanes = 8;
  double lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += body(i + lane);
  }
  for (; i < count; ++i) lanes[0] += body(i);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

float Largest(absl::Span<const float> values) {
  float largest = kMinusInfinity;
  for (const float value : values) largest = std::max(largest, value);
  return largest;
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
  return LaneSum(candidates.size(), [&](size_t i) { return candidates[i].weight; });
}

// Keeps the shortest run of candidates, in the order `before`, that holds at least `share` of the
// mass `total`; at least one. Sorts no more than a few times what it keeps.
template <typename Before>
void KeepShare(std::vector<Candidate>& candidates, double share, double total,
               const Before& before) {
  const auto begin = candidates.begin();
  size_t sorted = 0;
  double mass = 0;
  for (size_t reach = 64; sorted < candidates.size(); reach *= 4) {
    const size_t next = std::min(reach, candidates.size());
    if (next < candidates.size()) {
      std::nth_element(begin + sorted, begin + next, candidates.end(), before);
    }
    std::sort(begin + sorted, begin + next, before);
    for (; sorted < next; ++sorted) {
      mass += candidates[sorted].weight;
      if (mass >= share * total) {
        candidates.resize(sorted + 1);
        return;
      }
    }
  }
}

// Locally typical sampling (Meister et al. 2022, arXiv 2202.00666): tokens whose information is
// closest to the entropy come first.
void KeepTypical(std::vector<Candidate>& candidates, double typical_p) {
  const double total = TotalWeight(candidates);
  double entropy = std::log(total);
  for (const Candidate& c : candidates) {
    entropy -= c.weight / total * std::log(double{c.weight});
  }
  for (Candidate& c : candidates) {
    c.surprise =
        static_cast<float>(std::fabs(std::log(total) - std::log(double{c.weight}) - entropy));
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

// Turns logits into weights exp((logit - largest) / temperature).
void WeighAll(absl::Span<float> logits, float largest, float temperature) {
  const float inverse = 1.0f / temperature;
  for (float& logit : logits) logit = ExpNonPositive((logit - largest) * inverse);
}

// A weight such that the tokens at or above it hold at least `share` of the mass: candidates below
// it need not be looked at.
float WeightBound(absl::Span<const float> weights, double share, double total) {
  constexpr float kAny = std::numeric_limits<float>::min();
  if (share >= 1.0) return kAny;
  for (float bound = 0x1p-7f; bound > 0x1p-40f; bound *= 0x1p-7f) {
    const double mass =
        LaneSum(weights.size(), [&](size_t i) { return weights[i] >= bound ? weights[i] : 0.0f; });
    if (mass >= share * total) return bound;
  }
  return kAny;
}

std::vector<Candidate> AtLeast(absl::Span<const float> weights, float bound) {
  std::vector<Candidate> candidates;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] >= bound)
      candidates.push_back({.weight = weights[i], .id = static_cast<int32_t>(i)});
  }
  return candidates;
}

std::vector<Candidate> LikeliestOf(absl::Span<const float> logits, int k, float temperature) {
  std::vector<Candidate> candidates;
  const std::vector<TokenLogprob> top = TopLogits(logits, k);
  for (const TokenLogprob& token : top) {
    const float weight = ExpNonPositive((token.logprob - top[0].logprob) * (1.0f / temperature));
    if (weight > 0.0f) candidates.push_back({.weight = weight, .id = token.token_id});
  }
  return candidates;
}

// The index at which the running sum of weight(i) passes uniform * total.
template <typename Weight>
size_t Draw(size_t count, double uniform, const Weight& weight) {
  double total = 0;
  for (size_t i = 0; i < count; ++i) total += weight(i);
  double left = uniform * total;
  size_t last = 0;  // rounding may leave a little over: it belongs to the last possible token
  for (size_t i = 0; i < count; ++i) {
    if (weight(i) == 0.0f) continue;
    last = i;
    left -= weight(i);
    if (left < 0) break;
  }
  return last;
}

}  // namespace

void SanitizeLogits(absl::Span<float> logits) {
  for (float& logit : logits) {
    logit = logit == logit ? std::min(logit, std::numeric_limits<float>::max()) : kMinusInfinity;
  }
}

int32_t ArgMax(absl::Span<const float> logits) {
  const float largest = Largest(logits);
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), largest) - logits.begin());
}

std::vector<TokenLogprob> TopLogits(absl::Span<const float> logits, int k) {
  assert(k >= 0);
  const auto likelier = [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token_id < b.token_id;
  };
  std::vector<TokenLogprob> top;
  if (k == 0) return top;
  const size_t wanted = std::min(static_cast<size_t>(k), logits.size());
  // Collects what beats the k-th best so far, and cuts back to k whenever twice as much has come.
  // Ids ascend, so that an equal logit that comes later always loses.
  float bound = kMinusInfinity;
  bool bounded = false;
  const auto cut = [&] {
    std::nth_element(top.begin(), top.begin() + wanted - 1, top.end(), likelier);
    top.resize(wanted);
    bound = top.back().logprob;
    bounded = true;
  };
  for (size_t i = 0; i < logits.size(); ++i) {
    if (bounded && logits[i] <= bound) continue;
    top.push_back({static_cast<int32_t>(i), logits[i]});
    if (top.size() >= 2 * wanted + 32) cut();
  }
  if (top.size() > wanted) cut();
  std::sort(top.begin(), top.end(), likelier);
  return top;
}

double LogSumExp(absl::Span<const float> logits) {
  const float largest = Largest(logits);
  if (largest == kMinusInfinity) return kMinusInfinity;
  const double sum =
      LaneSum(logits.size(), [&](size_t i) { return ExpNonPositive(logits[i] - largest); });
  return double{largest} + std::log(sum);
}

int32_t DrawToken(absl::Span<float> logits, const SamplingParams& params, double uniform) {
  assert(params.temperature > 0.0f);
  const float largest = Largest(logits);
  if (largest == kMinusInfinity) return 0;
  const bool typical = params.typical_p < 1.0f;
  std::vector<Candidate> candidates;
  double mass = 0;  // of the tokens that top_p is a share of
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < logits.size()) {
    candidates = LikeliestOf(logits, params.top_k, params.temperature);
    mass = TotalWeight(candidates);
  } else {
    WeighAll(logits, largest, params.temperature);
    const auto weight = [&](size_t i) { return logits[i]; };
    if (!typical && params.top_p >= 1.0f && params.min_p <= 0.0f) {
      return static_cast<int32_t>(Draw(logits.size(), uniform, weight));
    }
    mass = LaneSum(logits.size(), weight);
    candidates = AtLeast(logits, WeightBound(logits, typical ? 1.0f : params.top_p, mass));
  }
  if (typical) {
    KeepTypical(candidates, params.typical_p);
    mass = TotalWeight(candidates);
  }
  if (params.top_p < 1.0f) KeepShare(candidates, params.top_p, mass, Likelier);
  if (params.min_p > 0.0f) KeepMinP(candidates, params.min_p);
  return candidates[Draw(candidates.size(), uniform,
                         [&](size_t i) { return candidates[i].weight; })]
      .id;
}

}  // namespace pregate
