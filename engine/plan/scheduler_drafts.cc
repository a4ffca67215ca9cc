// The scheduler's guesses ahead of answers (prompt_lookup.h). A draft lives from the opening of a
// plan to its commit: what was wrong, or had no rows, leaves nothing behind but a routed and
// computed tail that is written again. A guess costs nobody anything but time: it gets rows, logits
// and blocks that are left over, and whether it is worth the time is draft_gate.h's to say.
#include <algorithm>
#include <cassert>
#include <cmath>
#include <iterator>
#include <utility>

#include "engine/plan/prompt_lookup.h"
#include "engine/plan/scheduler_impl.h"

namespace pregate {

void Scheduler::Impl::DraftAnswers() {
  if (config_.max_draft_tokens == 0) return;
  int32_t answers = 0;
  int64_t prompt_rows = waiting_tokens_;
  for (const Sequence* sequence : running_) {
    answers += sequence->decodes();
    if (!sequence->decodes()) prompt_rows += sequence->missing();
  }
  if (answers == 0) return;
  prompt_rows = std::min<int64_t>(prompt_rows, config_.max_num_prefill_tokens);
  if (config_.max_num_step_seqs > 0) answers = std::min(answers, config_.max_num_step_seqs);
  draft_gate_.Open(answers + static_cast<int32_t>(prompt_rows), answers);
  const int32_t running = static_cast<int32_t>(running_.size());
  int32_t left = std::min(config_.max_num_batched_tokens - static_cast<int32_t>(prompt_rows),
                          config_.max_logits) -
                 running;
  for (Sequence* sequence : running_) {
    if (!sequence->decodes() || Room(*sequence) < sequence->size()) continue;
    Draft(sequence, std::min(left, config_.max_draft_tokens));
    left -= sequence->drafted();
  }
}

// Guesses at most `most` tokens. The last token of an answer is never computed, nor is one that
// would end it; and blocks are taken only as long as nobody waits for them.
void Scheduler::Impl::Draft(Sequence* sequence, int32_t most) {
  assert(sequence->drafts.empty());
  const LookupMatch match = FindMatch(sequence->tokens);
  if (match.length == 0) return;
  if (!sequence->odds) sequence->odds = draft_gate_.Begin();
  sequence->match = match.length;
  sequence->guess = sequence->tokens[match.next];
  most = std::min(most, LongestContext(sequence->request) - sequence->size());
  const int32_t count = draft_gate_.Worth(sequence->odds->of(match.length), most);
  sequence->drafts = CopyFrom(sequence->tokens, match.next, count);
  std::vector<int32_t>& drafts = sequence->drafts;
  const std::vector<int32_t>& stop_ids = sequence->request.stop_ids;
  drafts.erase(std::find_if(drafts.begin(), drafts.end(),
                            [&](int32_t token) {
                              return std::binary_search(stop_ids.begin(), stop_ids.end(), token);
                            }),
               drafts.end());
  const bool spare = waiting_.empty() || free_slots_.empty();
  while (Room(*sequence) < sequence->known()) {
    if (spare && blocks_.Grow(sequence)) continue;
    drafts.resize(Room(*sequence) - sequence->size());
  }
}

// The plan runs `experts`. Cuts a draft off before the first token whose expert is cold: it is not
// among those, and reading it as well is more than the rest of the draft is worth. Returns the
// experts that the plan runs then.
ExpertMask Scheduler::Impl::KeepWarmDrafts(Sequence* sequence, ExpertMask experts) {
  if (sequence->drafted() == 0) return experts;
  const int32_t size = sequence->size();
  const double odds = sequence->odds->of(sequence->match);
  const int32_t routed = std::min(sequence->drafted(), sequence->routed - size);
  int32_t kept = 0;
  double chance = odds;
  for (; kept < routed; ++kept, chance *= odds) {
    const ExpertMask expert = ExpertMask{1} << sequence->experts[size + kept];
    if ((experts & expert) != 0) continue;
    if (!experts_.all_fit()) break;
    const double rest = chance * (1 - std::pow(odds, routed - kept)) / std::max(1 - odds, 1e-9);
    if (!draft_gate_.Pays(rest, experts_.ExtraSeconds(experts, expert))) break;
    experts |= expert;
  }
  CutDraft(sequence, kept);
  return experts;
}

// Back to `count` guesses, with what the router has seen and the blocks that those need.
void Scheduler::Impl::CutDraft(Sequence* sequence, int32_t count) {
  if (sequence->drafted() <= count) return;
  sequence->drafts.resize(count);
  Forget(sequence, sequence->known());
}

// What the router has seen from this position on was of tokens that did not come.
void Scheduler::Impl::Forget(Sequence* sequence, int32_t position) {
  sequence->routed = std::min(sequence->routed, position);
  if (static_cast<int32_t>(sequence->experts.size()) > position) sequence->experts.resize(position);
  if (!Protected(*sequence)) blocks_.Trim(sequence, std::max(sequence->known(), position));
}

// Who has no rows in the plan after all guesses anew for the next.
void Scheduler::Impl::DropDrafts() {
  for (Sequence* sequence : running_) {
    if (sequence->planned_rows > 0) continue;
    CutDraft(sequence, 0);
    sequence->match = 0;
  }
}

// The plan has run and `sampled` tokens have joined the sequence: learns from them, whether they
// were drafted or only looked up, and keeps what was right.
void Scheduler::Impl::SettleDrafts(Sequence* sequence, int32_t rows, int32_t sampled) {
  const int32_t match = std::exchange(sequence->match, 0);
  if (match == 0) return;
  const std::vector<int32_t> drafts = std::exchange(sequence->drafts, {});
  const int32_t first = sequence->size() - sampled;
  for (int32_t i = 0; i < sampled && i <= std::max(std::ssize(drafts) - 1, int64_t{0}); ++i) {
    const bool right = sequence->tokens[first + i] == (i == 0 ? sequence->guess : drafts[i]);
    draft_gate_.Observe(match, right, &*sequence->odds);
    if (!right) break;
  }
  if (drafts.empty()) return;
  const int32_t accepted = std::max(sampled - 1, 0);
  drafts_ += rows > 1;
  draft_tokens_ += rows - 1;
  accepted_tokens_ += accepted;
  for (int32_t i = 0; i < accepted && routes(); ++i) {
    experts_.Sampled(sequence->experts[first + i - 1], sequence->experts[first + i]);
  }
  Forget(sequence, first + accepted);
}

}  // namespace pregate
