// Ledger: guesses ahead of answers.
#include <algorithm>

#include "tests/plan/sim_ledger.h"

namespace pregate {

int32_t Ledger::TokenAt(const Account& account, int32_t position) {
  const int32_t size = account.size();
  return position < size ? account.tokens[position] : account.drafts[position - size];
}

// What the router's memory holds of a position, guesses included.
RouterEntry Ledger::Expected(const Account& account, int32_t position) const {
  const int32_t size = account.size();
  if (position < size) return {account.prefixes[position], account.experts[position]};
  RouterEntry entry = {account.prefixes[size - 1], account.experts[size - 1]};
  for (int32_t i = 0; i <= position - size; ++i) {
    entry.prefix = ExtendPrefix(entry.prefix, account.drafts[i]);
    entry.expert = ExpertOf(entry.prefix, entry.expert, config_.experts.num_experts);
  }
  return entry;
}

// Rows behind the newest token are guesses: to be routed, or to be computed.
bool Ledger::TakeDrafts(const BatchPlan& plan, int32_t index, Account* account) {
  const SequenceId id = account->request.id;
  const int32_t size = account->size();
  const auto text = account->tokens.begin();
  for (int32_t row = plan.row_start[index]; row < plan.row_start[index + 1]; ++row) {
    const int32_t position = plan.positions[row], token = plan.token_ids[row];
    if (position < size) continue;
    const int32_t drafted = static_cast<int32_t>(account->drafts.size());
    if (position - size < drafted) {
      if (!Require(account->drafts[position - size] == token, "D2: not what was routed", id)) {
        return false;
      }
      continue;
    }
    const int64_t end = int64_t{account->request.max_tokens} + std::ssize(account->request.prompt);
    const std::vector<int32_t>& stops = account->request.stop_ids;
    if (!Require(position - size == drafted && drafted < config_.max_draft_tokens &&
                     account->delivered > 0 && account->computed + 1 == size &&
                     position < std::min<int64_t>(end, config_.max_model_len) - 1 &&
                     std::find(text, text + size, token) != text + size &&
                     std::find(stops.begin(), stops.end(), token) == stops.end(),
                 "D1: a guess that cannot be", id)) {
      return false;
    }
    account->drafts.push_back(token);
  }
  return true;
}

void Ledger::CheckDraftedExperts(const BatchPlan& plan) {
  ExpertMask known = 0, guessed = 0;
  for (int32_t s = 0; s < plan.sequences(); ++s) {
    const int32_t size = all_.at(slot_owner_[plan.sequence_slots[s]]).size();
    for (int32_t row = plan.row_start[s]; row < plan.row_start[s + 1]; ++row) {
      ExpertMask& experts = plan.positions[row] < size ? known : guessed;
      experts |= ExpertMask{1} << plan.expert_ids[row];
    }
  }
  Require(config_.experts.cache_bytes == 0 || (guessed & ~known) == 0,
          "D3: an expert for the sake of a guess");
}

void Ledger::DropDrafts(Account* account) {
  account->drafts.clear();
  account->routed = std::min(account->routed, account->size());
}

// Blocks for what those who have been taken up have said, or can come to say once they have lost
// their blocks as often as they may.
int64_t Ledger::MostBlocks() const {
  int64_t blocks = 0;
  for (const auto& [id, account] : live_) {
    int64_t positions = account->size();
    if (account->resumed >= config_.max_preemptions) {
      positions += account->request.max_tokens - account->delivered;
    }
    if (account->admitted) blocks += (positions + config_.block_tokens - 1) / config_.block_tokens;
  }
  return blocks;
}

// A sequence of the plan has come from `size_before` to where it is now: what was guessed and is
// not the answer's is not computed and not routed.
void Ledger::SettleDrafts(int32_t index, int32_t size_before) {
  Account& account = all_.at(slot_owner_[plan_.sequence_slots[index]]);
  const int32_t context = plan_.context_len[index];
  const int32_t drafted = std::max(context - size_before, 0);
  const int32_t accepted = std::max(account.size() - size_before - 1, 0);
  drafts_ += drafted > 0;
  draft_tokens_ += drafted;
  accepted_tokens_ += accepted;
  const int32_t standing = size_before + accepted;
  account.computed = std::min(context, standing);
  if (context >= size_before) account.routed = std::min(account.routed, standing);
  account.drafts.clear();
}

}  // namespace pregate
