#include "engine/model/sampler.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <numeric>
#include <utility>

#include "engine/model/philox.h"
#include "engine/model/token_choice.h"
#include "kernels/logit_math.h"

namespace pregate {

struct Sampler::RowView {
  size_t index;      // among the plan's logit rows
  int32_t target;    // the token to score, or -1 to sample ...
  int32_t position;  // ... that of this position
  // Places, edits and draws of the device that are this row's begin here.
  size_t place = 0, edit = 0, draw = 0;
  size_t edits = 0;

  bool is_sampled() const { return target < 0; }
};

struct Sampler::Outcome {
  int32_t token_id;
  std::optional<PositionLogprobs> logprobs;
};

namespace {

double UniformOf(const SamplingParams& params, int32_t position) {
  return UniformAt(params.seed, static_cast<uint64_t>(position));
}

// Whether the device draws: else the row comes over.
bool DeviceDraws(const SamplerSlot& slot, int32_t vocab) {
  const SamplingParams& params = slot.params();
  return slot.is_greedy() ||
         (params.typical_p >= 1.0f && (params.top_k <= kMaxLikeliest || params.top_k >= vocab));
}

TokenDraw DrawOf(const SamplerSlot& slot, int32_t row, int32_t position, int32_t vocab) {
  if (slot.is_greedy()) return {.row = row, .top_k = 1};
  const SamplingParams& params = slot.params();
  return {.row = row,
          .scale = WeightScale(params.temperature),
          .top_k = params.top_k < vocab ? params.top_k : 0,
          .top_p = params.top_p,
          .min_p = params.min_p,
          .uniform = UniformOf(params, position)};
}

int32_t ChooseToken(const SamplerSlot& slot, int32_t position, absl::Span<float> logits) {
  if (slot.is_greedy()) return ArgMax(logits);
  return DrawToken(logits, slot.params(), UniformOf(slot.params(), position));
}

// Logits become log-probabilities.
void SubtractLogSum(double log_sum, PositionLogprobs* logprobs) {
  const auto subtract = [&](TokenLogprob& token) {
    SanitizeLogits(absl::MakeSpan(&token.logprob, 1));
    // A row without any number has no distribution: every token is impossible.
    if (token.logprob == -std::numeric_limits<float>::infinity()) return;
    token.logprob = static_cast<float>(token.logprob - log_sum);
  };
  subtract(logprobs->chosen);
  for (TokenLogprob& token : logprobs->top) subtract(token);
  for (TokenLogprob& token : logprobs->wanted) subtract(token);
}

}  // namespace

Sampler::Sampler(Device* device, const Kernels* kernels, int32_t vocab_size, int32_t max_num_seqs)
    : device_(device), vocab_size_(vocab_size), slots_(static_cast<size_t>(max_num_seqs)) {
  if (!device->host_memory()) device_logits_.emplace(device, kernels, vocab_size);
}
Sampler::~Sampler() = default;

void Sampler::Open(int32_t slot, const SamplingParams& params, absl::Span<const int32_t> prompt,
                   absl::Span<const int32_t> generated) {
  assert(std::all_of(prompt.begin(), prompt.end(), [&](int32_t id) { return id < vocab_size_; }));
  slots_[static_cast<size_t>(slot)] = SamplerSlot(params, prompt, generated);
}

void Sampler::Close(int32_t slot) { slots_[static_cast<size_t>(slot)] = SamplerSlot(); }

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
  rows_.clear();
  for (size_t k = 0; k < count; ++k) {
    const int32_t position = plan.positions[static_cast<size_t>(plan.logit_rows[k])] + 1;
    rows_.push_back({k, plan.logit_targets[k], position});
  }
  if (device_logits_) AskDevice(plan, logits);
  SampledTokens sampled;
  sampled.token_ids.assign(count, kNotSampled);
  sampled.logprobs.resize(count);
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

// Asks of every row what will be read of it. Drafted rows are asked as if all of them counted: the
// tokens before them are those that were drafted.
void Sampler::AskDevice(const BatchPlan& plan, Tensor logits) {
  questions_.Clear();
  const auto drafted = [&](size_t k) {
    return plan.token_ids[static_cast<size_t>(plan.logit_rows[k])];
  };
  for (size_t begin = 0, end = 0; begin < rows_.size(); begin = end) {
    end = EndOfRun(plan, begin);
    SamplerSlot& slot = slots_[static_cast<size_t>(plan.logit_slots[begin])];
    for (size_t k = begin; k < end; ++k) {
      if (k > begin) slot.Generate(drafted(k));
      AskOfRow(slot, &rows_[k]);
    }
    for (size_t k = end - 1; k > begin; --k) slot.Forget(drafted(k));
  }
  answered_ = device_logits_->Ask(questions_, logits);
  if (answered_) return;
  std::vector<size_t> all(rows_.size());
  std::iota(all.begin(), all.end(), size_t{0});
  device_logits_->FetchRows(logits, all);
}

void Sampler::AskOfRow(const SamplerSlot& slot, RowView* row) {
  const auto index = static_cast<int32_t>(row->index);
  row->place = questions_.places.size();
  row->edit = questions_.edits.size();
  row->draw = questions_.draws.size();
  if (row->is_sampled()) {
    slot.ForEachEdit([&](LogitEdit edit) {
      edit.place.row = index;
      questions_.edits.push_back(edit);
    });
    if (DeviceDraws(slot, vocab_size_)) {
      questions_.draws.push_back(DrawOf(slot, index, row->position, vocab_size_));
    } else {
      questions_.whole.push_back(row->index);
    }
  }
  row->edits = questions_.edits.size() - row->edit;
  if (!slot.params().wants_logprobs()) return;
  questions_.top = std::max({questions_.top, slot.params().logprobs, 1});
  for (const int32_t id : slot.params().logprob_token_ids) questions_.places.push_back({index, id});
  if (!row->is_sampled()) questions_.places.push_back({index, row->target});
  for (size_t i = 0; i < row->edits; ++i) {  // one of these may be the token that is drawn
    questions_.places.push_back(questions_.edits[row->edit + i].place);
  }
}

// Logit rows [begin, end) of one slot, until one samples another token than the next row's.
void Sampler::SampleRun(const BatchPlan& plan, size_t begin, size_t end, Tensor logits,
                        SampledTokens* sampled) {
  SamplerSlot& slot = slots_[static_cast<size_t>(plan.logit_slots[begin])];
  for (size_t k = begin; k < end; ++k) {
    const size_t row = static_cast<size_t>(plan.logit_rows[k]);
    if (k > begin && plan.token_ids[row] != sampled->token_ids[k - 1]) return;
    Outcome outcome;
    if (device_logits_ && answered_) {
      outcome = ReadAnswer(slot, rows_[k]);
    } else if (device_logits_) {
      outcome = ChooseHere(slot, rows_[k], device_logits_->Row(k));
    } else {
      outcome = ChooseHere(slot, rows_[k],
                           absl::MakeSpan(logits.Row<float>(static_cast<int64_t>(k)),
                                          static_cast<size_t>(vocab_size_)));
    }
    sampled->token_ids[k] = outcome.token_id;
    sampled->logprobs[k] = std::move(outcome.logprobs);
    if (rows_[k].is_sampled()) slot.Generate(outcome.token_id);
  }
}

Sampler::Outcome Sampler::ChooseHere(const SamplerSlot& slot, const RowView& row,
                                     absl::Span<float> logits) const {
  const SamplingParams& params = slot.params();
  std::vector<float> raw;  // the model's own word, before anything is edited
  if (params.wants_logprobs()) {
    raw.assign(logits.begin(), logits.end());
    SanitizeLogits(absl::MakeSpan(raw));
  }

  Outcome outcome = {row.target, std::nullopt};
  if (row.is_sampled()) {
    slot.ForEachEdit([&](const LogitEdit& edit) {
      float& logit = logits[static_cast<size_t>(edit.place.id)];
      logit = EditedLogit(logit, edit);
    });
    outcome.token_id = ChooseToken(slot, row.position, logits);
  }
  if (!params.wants_logprobs()) return outcome;
  const auto token = [&](int32_t id) { return TokenLogprob{id, raw[static_cast<size_t>(id)]}; };
  PositionLogprobs logprobs = {
      token(outcome.token_id), TopLogits(raw, std::max(params.logprobs, 0)), {}};
  for (const int32_t id : params.logprob_token_ids) logprobs.wanted.push_back(token(id));
  SubtractLogSum(LogSumExp(raw), &logprobs);
  outcome.logprobs = std::move(logprobs);
  return outcome;
}

Sampler::Outcome Sampler::ReadAnswer(const SamplerSlot& slot, const RowView& row) {
  const SamplingParams& params = slot.params();
  TokenLogprob chosen = {row.target, 0.0f};
  if (row.is_sampled()) {
    if (DeviceDraws(slot, vocab_size_)) {
      chosen = device_logits_->Drawn(row.draw);
    } else {
      const absl::Span<float> logits = device_logits_->Row(row.index);
      const std::vector<float> edited(logits.begin(), logits.end());
      chosen.token_id = ChooseToken(slot, row.position, logits);
      chosen.logprob = edited[static_cast<size_t>(chosen.token_id)];
    }
  }
  if (!params.wants_logprobs()) return {chosen.token_id, std::nullopt};

  PositionLogprobs logprobs = {
      {}, device_logits_->Top(row.index, std::max(params.logprobs, 0)), {}};
  size_t place = row.place;
  for (const int32_t id : params.logprob_token_ids) {
    logprobs.wanted.push_back({id, device_logits_->LogitAt(place++)});
  }
  if (!row.is_sampled()) chosen.logprob = device_logits_->LogitAt(place);
  for (size_t i = 0; i < row.edits; ++i) {  // what was drawn had another logit before
    if (questions_.edits[row.edit + i].place.id == chosen.token_id) {
      chosen.logprob = device_logits_->LogitAt(place + i);
    }
  }
  logprobs.chosen = chosen;
  SubtractLogSum(device_logits_->LogSumExp(row.index), &logprobs);
  return {chosen.token_id, std::move(logprobs)};
}

}  // namespace pregate
