#include "engine/model/sampler.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "engine/model/philox.h"
#include "engine/model/token_choice.h"

namespace pregate {
namespace {

// Below this temperature the softmax is the argmax in all but name, and 1 / T would overflow.
constexpr float kGreedyTemperature = 1e-5f;

// Likeliest tokens of a row that come from a device, unless all rows that ask for some are greedy.
// More would decide more rows, and each is 8 bytes of every row.
constexpr int32_t kLikeliest = 64;

// A token of the sequence, and how often its answer has it.
struct SeenToken {
  int32_t id;
  int32_t count;
};

PositionLogprobs MeasureLogprobs(absl::Span<const float> logits, int32_t chosen,
                                 const SamplingParams& params) {
  const double log_sum = LogSumExp(logits);
  const auto logprob = [&](float logit) {
    // A row without any number has no distribution: every token is impossible.
    return logit > -std::numeric_limits<float>::infinity() ? static_cast<float>(logit - log_sum)
                                                           : logit;
  };
  PositionLogprobs logprobs;
  logprobs.chosen = {chosen, logprob(logits[static_cast<size_t>(chosen)])};
  logprobs.top = TopLogits(logits, std::max(params.logprobs, 0));
  for (TokenLogprob& token : logprobs.top) token.logprob = logprob(token.logprob);
  for (const int32_t id : params.logprob_token_ids) {
    logprobs.wanted.push_back({id, logprob(logits[static_cast<size_t>(id)])});
  }
  return logprobs;
}

}  // namespace

struct Sampler::Slot {
  SamplingParams params;
  int32_t generated = 0;
  std::vector<SeenToken> seen;                 // what penalties touch, in order of first appearance
  absl::flat_hash_map<int32_t, size_t> index;  // of a token in `seen`

  bool HasPenalties() const {
    return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
           params.frequency_penalty != 0.0f;
  }
  bool IsGreedy() const { return params.temperature < kGreedyTemperature; }
  // Whether the likeliest tokens may tell which one is sampled after `ahead` more.
  bool LikeliestMayDo(size_t ahead) const {
    if (params.wants_logprobs() || HasPenalties() || !params.logit_bias.empty()) return false;
    const bool held_back = generated + static_cast<int32_t>(ahead) < params.min_tokens;
    if (held_back && !params.stop_ids.empty()) return false;
    return IsGreedy() || LikeliestMayDecide(params, kLikeliest);
  }
  void See(int32_t id, int32_t count) {
    if (!HasPenalties()) return;
    const auto [it, is_new] = index.try_emplace(id, seen.size());
    if (is_new) seen.push_back({id, 0});
    seen[it->second].count += count;
  }
  void Generate(int32_t id) {
    ++generated;
    See(id, 1);
  }

  // In the order that users of vLLM know: bias, min_tokens, penalties.
  void Adjust(absl::Span<float> logits) const {
    for (const auto& [id, bias] : params.logit_bias) logits[static_cast<size_t>(id)] += bias;
    if (generated < params.min_tokens) {
      for (const int32_t id : params.stop_ids) {
        logits[static_cast<size_t>(id)] = -std::numeric_limits<float>::infinity();
      }
    }
    for (const SeenToken& token : seen) {
      float& logit = logits[static_cast<size_t>(token.id)];
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
      if (token.count == 0) continue;
      logit -= params.frequency_penalty * static_cast<float>(token.count) + params.presence_penalty;
    }
  }
};

struct Sampler::Outcome {
  int32_t token_id;
  std::optional<PositionLogprobs> logprobs;
};

Sampler::Sampler(Device* device, const Kernels* kernels, int32_t vocab_size, int32_t max_num_seqs)
    : device_(device), vocab_size_(vocab_size), slots_(static_cast<size_t>(max_num_seqs)) {
  if (!device->host_memory()) device_logits_.emplace(device, kernels, vocab_size);
}
Sampler::~Sampler() = default;

void Sampler::Open(int32_t slot, const SamplingParams& params, absl::Span<const int32_t> prompt,
                   absl::Span<const int32_t> generated) {
  assert(std::all_of(prompt.begin(), prompt.end(), [&](int32_t id) { return id < vocab_size_; }));
  Slot& opened = slots_[static_cast<size_t>(slot)];
  opened = Slot();
  opened.params = params;
  for (const int32_t id : prompt) opened.See(id, 0);
  for (const int32_t id : generated) opened.Generate(id);
}

void Sampler::Close(int32_t slot) { slots_[static_cast<size_t>(slot)] = Slot(); }

Sampler::Outcome Sampler::Choose(const Slot& slot, int32_t target, int32_t position,
                                 absl::Span<float> logits) {
  const SamplingParams& params = slot.params;
  std::vector<float> raw;  // the model's own word, before anything is adjusted
  if (params.wants_logprobs()) {
    raw.assign(logits.begin(), logits.end());
    SanitizeLogits(absl::MakeSpan(raw));
  }

  Outcome outcome = {target, std::nullopt};
  if (target < 0) {
    slot.Adjust(logits);
    outcome.token_id =
        slot.IsGreedy()
            ? ArgMax(logits)
            : DrawToken(logits, params, UniformAt(params.seed, static_cast<uint64_t>(position)));
  }
  if (params.wants_logprobs()) {
    outcome.logprobs = MeasureLogprobs(raw, outcome.token_id, params);
  }
  return outcome;
}

// Where the logit row after `k` starts anew: sampled rows of one slot are one run, because each is
// of use only if the one before it sampled the token that it continues.
size_t Sampler::EndOfRun(const BatchPlan& plan, size_t k) {
  size_t end = k + 1;
  if (plan.logit_targets[k] >= 0) return end;  // scored rows do not depend on each other
  while (end < plan.logit_rows.size() && plan.logit_targets[end] < 0 &&
         plan.logit_slots[end] == plan.logit_slots[k]) {
    ++end;
  }
  return end;
}

SampledTokens Sampler::Sample(const BatchPlan& plan, Tensor logits) {
  const size_t count = static_cast<size_t>(plan.logits());
  assert(logits.rows == plan.logits() && logits.cols >= vocab_size_);
  SampledTokens sampled;
  sampled.token_ids.assign(count, kNotSampled);
  sampled.logprobs.resize(count);
  if (device_logits_) FetchRows(plan, logits);
  std::vector<size_t> starts;  // of the runs
  for (size_t k = 0; k < count; k = EndOfRun(plan, k)) starts.push_back(k);
  device_->ParallelFor(static_cast<int64_t>(starts.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t run = begin; run < end; ++run) {
      const size_t first = starts[static_cast<size_t>(run)];
      SampleRun(plan, first, EndOfRun(plan, first), logits, &sampled);
    }
  });
  return sampled;
}

// Brings over what the host needs of rows that it cannot read. Drafted rows are fetched, or
// decided, as if all of them counted: what a row that the likeliest tokens may decide samples does
// not depend on the rows before it.
void Sampler::FetchRows(const BatchPlan& plan, ConstTensor logits) {
  const size_t count = static_cast<size_t>(plan.logits());
  decided_.assign(count, kNotSampled);
  std::vector<size_t> asked, whole;
  for (size_t begin = 0, end = 0; begin < count; begin = end) {
    end = EndOfRun(plan, begin);
    const Slot& slot = slots_[static_cast<size_t>(plan.logit_slots[begin])];
    for (size_t k = begin; k < end; ++k) {
      if (plan.logit_targets[k] >= 0 && !slot.params.wants_logprobs()) {
        decided_[k] = plan.logit_targets[k];
      } else if (plan.logit_targets[k] < 0 && slot.LikeliestMayDo(k - begin)) {
        asked.push_back(k);
      } else {
        whole.push_back(k);
      }
    }
  }
  if (!asked.empty()) DecideByLikeliest(plan, asked, logits);
  for (const size_t k : asked) {
    if (decided_[k] == kNotSampled) whole.push_back(k);
  }
  std::sort(whole.begin(), whole.end());
  device_logits_->FetchRows(logits, whole);
}

// Sets `decided_` of those rows whose likeliest tokens tell what is sampled.
void Sampler::DecideByLikeliest(const BatchPlan& plan, absl::Span<const size_t> rows,
                                ConstTensor logits) {
  std::vector<float> inv_temperatures(static_cast<size_t>(logits.rows), 1.0f);
  bool all_greedy = true;
  for (const size_t k : rows) {
    const Slot& slot = slots_[static_cast<size_t>(plan.logit_slots[k])];
    if (slot.IsGreedy()) continue;
    all_greedy = false;
    inv_temperatures[k] = 1.0f / slot.params.temperature;
  }
  if (all_greedy) inv_temperatures.clear();
  if (!device_logits_->FetchLikeliest(logits, all_greedy ? 1 : kLikeliest, inv_temperatures)) {
    return;  // no room: all come whole
  }
  device_->ParallelFor(static_cast<int64_t>(rows.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const size_t k = rows[static_cast<size_t>(i)];
      const Slot& slot = slots_[static_cast<size_t>(plan.logit_slots[k])];
      const int32_t position = plan.positions[static_cast<size_t>(plan.logit_rows[k])] + 1;
      const LikeliestTokens likeliest = device_logits_->Likeliest(k);
      decided_[k] =
          slot.IsGreedy()
              ? likeliest.tokens[0].token_id
              : DrawFromLikeliest(likeliest, slot.params,
                                  UniformAt(slot.params.seed, static_cast<uint64_t>(position)))
                    .value_or(kNotSampled);
    }
  });
}

// Logit rows [begin, end) of one slot, until one samples another token than the next row's.
void Sampler::SampleRun(const BatchPlan& plan, size_t begin, size_t end, Tensor logits,
                        SampledTokens* sampled) {
  Slot& slot = slots_[static_cast<size_t>(plan.logit_slots[begin])];
  for (size_t k = begin; k < end; ++k) {
    const size_t row = static_cast<size_t>(plan.logit_rows[k]);
    if (k > begin && plan.token_ids[row] != sampled->token_ids[k - 1]) return;
    const int32_t target = plan.logit_targets[k];
    if (device_logits_ && decided_[k] != kNotSampled) {
      sampled->token_ids[k] = decided_[k];
    } else {
      const absl::Span<float> values =
          device_logits_ ? device_logits_->Row(k)
                         : absl::MakeSpan(logits.Row<float>(static_cast<int64_t>(k)),
                                          static_cast<size_t>(vocab_size_));
      Outcome outcome = Choose(slot, target, plan.positions[row] + 1, values);
      sampled->token_ids[k] = outcome.token_id;
      sampled->logprobs[k] = std::move(outcome.logprobs);
    }
    if (target < 0) slot.Generate(sampled->token_ids[k]);
  }
}

}  // namespace pregate
