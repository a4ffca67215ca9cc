// Ledger: who may go before whom, and how long anybody may have to wait.
#include <algorithm>
#include <iterator>

#include "tests/plan/sim_ledger.h"

namespace pregate {

// As policy.h says it, on the ledger's own count of plans waited.
bool Ledger::GoesBefore(const Account& a, const Account& b) const {
  if (config_.policy == SchedulingPolicy::kFcfs) return a.arrival < b.arrival;
  const bool a_aged = a.waited >= config_.wait_steps_max;
  const bool b_aged = b.waited >= config_.wait_steps_max;
  if (a_aged != b_aged) return a_aged;
  if (!a_aged && a.request.priority != b.request.priority) {
    return a.request.priority < b.request.priority;
  }
  return a.arrival < b.arrival;
}

// Nobody is admitted before somebody who waits and goes before him, but for a prefix that is about
// to be in the cache.
void Ledger::CheckOvertaking(const std::vector<Admission>& admissions) {
  const auto admitted_now = [&](SequenceId id) {
    return std::any_of(admissions.begin(), admissions.end(),
                       [id](const Admission& admission) { return admission.id == id; });
  };
  for (auto& [id, account] : live_) {
    if (account->slot >= 0 || admitted_now(id)) continue;  // does not wait
    bool overtaken = false;
    for (const Admission& admission : admissions) {
      const auto other = live_.find(admission.id);
      if (other == live_.end() || !GoesBefore(*account, *other->second)) continue;
      overtaken = true;
      if (account->allowed >= 0) account->allowed += Work(*other->second);  // may be in the way
    }
    if (!overtaken) continue;
    ++account->overtaken;
    const bool may_hit = config_.enable_prefix_caching && !account->request.prompt_logits;
    Require(may_hit && account->overtaken <= kMaxOvertaken, "I8: overtaken", id);
  }
}

// Plans that a sequence can keep others from their turn: its rows one by one, as often as it may
// have to begin again.
int64_t Ledger::Work(const Account& account) const {
  const int64_t positions = std::ssize(account.request.prompt) + account.request.max_tokens;
  return positions * (1 + config_.max_preemptions) * (InOrder() ? 1 : LongestPassedOver() + 1);
}

// From now on nobody new goes before this one, so it ends once all that are there could have ended
// one after the other. (In every plan the first in order that holds blocks gets a row.)
void Ledger::Bound(Account* account) {
  account->allowed = account->plans;
  for (const auto& [id, other] : live_) account->allowed += Work(*other) + kMaxOvertaken;
}

void Ledger::CheckWaiting() {
  for (auto& [id, account] : live_) {
    ++account->plans;
    if (!account->planned) ++account->waited;
    if (account->allowed < 0 && account->waited >= config_.wait_steps_max) Bound(account);
    Require(account->allowed < 0 || account->plans <= account->allowed,
            "I8: waits beyond its bound", id);
  }
}

}  // namespace pregate
