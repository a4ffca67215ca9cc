#include "tests/plan/fake_model.h"

#include <algorithm>

#include "tests/plan/plan_text.h"
#include "tests/plan/sim_random.h"

namespace pregate {

uint64_t EmptyPrefix(uint64_t salt) { return Mix(0x5eed, salt); }

uint64_t ExtendPrefix(uint64_t prefix, int32_t token) {
  return Mix(prefix, static_cast<uint64_t>(token));
}

int32_t NextToken(SequenceId id, uint64_t prefix, int32_t vocabulary) {
  return static_cast<int32_t>(Mix(id, prefix) % static_cast<uint64_t>(vocabulary));
}

SoloAnswer AnswerAlone(const Request& request, int32_t max_model_len, int32_t vocabulary) {
  uint64_t prefix = EmptyPrefix(request.cache_salt);
  for (int32_t token : request.prompt) prefix = ExtendPrefix(prefix, token);
  SoloAnswer answer;
  const int32_t room = max_model_len - static_cast<int32_t>(request.prompt.size());
  while (answer.finish == FinishReason::kNone) {
    const int32_t token = NextToken(request.id, prefix, vocabulary);
    answer.tokens.push_back(token);
    prefix = ExtendPrefix(prefix, token);
    const int32_t count = static_cast<int32_t>(answer.tokens.size());
    const bool stops = std::find(request.stop_ids.begin(), request.stop_ids.end(), token) !=
                       request.stop_ids.end();
    if (stops && count > request.min_tokens) {
      answer.finish = FinishReason::kStop;
    } else if (count >= std::min(request.max_tokens, room)) {
      answer.finish = FinishReason::kLength;
    }
  }
  return answer;
}

int32_t ExpertOf(uint64_t prefix, int32_t expert_before, int32_t num_experts) {
  const uint64_t draw = Mix(0xe49e47, prefix);
  if (expert_before >= 0 && draw % 10 < 7) return expert_before;
  return static_cast<int32_t>((draw >> 32) % static_cast<uint64_t>(num_experts));
}

FakeModel::FakeModel(int32_t num_blocks, int32_t block_tokens, int32_t max_num_seqs,
                     int32_t vocabulary, int32_t num_experts)
    : block_tokens_(block_tokens),
      vocabulary_(vocabulary),
      num_experts_(num_experts),
      memory_(static_cast<size_t>(num_blocks) * block_tokens),
      router_memory_(memory_.size()),
      bindings_(max_num_seqs) {}

void FakeModel::Bind(int32_t slot, const Request& request) {
  bindings_[slot] = {request.id, request.cache_salt};
}

std::vector<int32_t> FakeModel::Run(const BatchPlan& plan) {
  for (int32_t s = 0; s < plan.sequences(); ++s) WriteRows(plan, s);
  std::vector<int32_t> token_ids;
  for (int32_t i = 0; i < plan.logits(); ++i) {
    const int32_t row = plan.logit_rows[i];
    if (IsDrafted(plan, i) && plan.token_ids[row] != token_ids.back()) {
      token_ids.push_back(kNotSampled);
      continue;
    }
    const KvEntry& newest = memory_[plan.kv_slots[row]];
    token_ids.push_back(plan.logit_targets[i] >= 0 ? plan.logit_targets[i]
                                                   : NextToken(bindings_[plan.logit_slots[i]].id,
                                                               newest.prefix, vocabulary_));
  }
  return token_ids;
}

std::vector<int32_t> FakeModel::Route(const BatchPlan& plan) {
  std::vector<int32_t> expert_ids;
  for (int32_t s = 0; s < plan.sequences(); ++s) {
    const int32_t* blocks = &plan.block_ids[plan.block_start[s]];
    for (int32_t row = plan.row_start[s]; row < plan.row_start[s + 1]; ++row) {
      RouterEntry before = {EmptyPrefix(bindings_[plan.sequence_slots[s]].salt)};
      if (const int32_t last = plan.positions[row] - 1; last >= 0) {
        before =
            router_memory_[blocks[last / block_tokens_] * block_tokens_ + last % block_tokens_];
      }
      const uint64_t prefix = ExtendPrefix(before.prefix, plan.token_ids[row]);
      expert_ids.push_back(ExpertOf(prefix, before.expert, num_experts_));
      router_memory_[plan.kv_slots[row]] = {prefix, expert_ids.back()};
    }
  }
  return expert_ids;
}

// The row before comes from memory, through the sequence's blocks, as attention would read it.
void FakeModel::WriteRows(const BatchPlan& plan, int32_t sequence) {
  const int32_t* blocks = &plan.block_ids[plan.block_start[sequence]];
  for (int32_t row = plan.row_start[sequence]; row < plan.row_start[sequence + 1]; ++row) {
    const int32_t position = plan.positions[row];
    uint64_t before = EmptyPrefix(bindings_[plan.sequence_slots[sequence]].salt);
    if (position > 0) {
      const int32_t last = position - 1;
      before = memory_[blocks[last / block_tokens_] * block_tokens_ + last % block_tokens_].prefix;
    }
    const int32_t token = plan.token_ids[row];
    memory_[plan.kv_slots[row]] = {token, position, ExtendPrefix(before, token)};
  }
}

void FakeModel::RunBadly(const BatchPlan& plan) {
  for (int32_t kv_slot : plan.kv_slots) memory_[kv_slot] = {};
}

}  // namespace pregate
