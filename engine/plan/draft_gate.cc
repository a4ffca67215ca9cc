#include "engine/plan/draft_gate.h"

namespace pregate {

DraftOdds DraftGate::Begin() const {
  DraftOdds odds(kMemory);
  odds.CopyFrom(all_);
  return odds;
}

void DraftGate::Observe(int32_t match, bool right, DraftOdds* own) {
  own->Observe(match, right);
  all_.Observe(match, right);
}

void DraftGate::Open(int32_t rows, int32_t answers) {
  seconds_ = model_.cost().Seconds(rows, 0);
  tokens_ = answers;
}

// A row pays while odds of its token / its seconds > tokens / seconds of the plan without it.
int32_t DraftGate::Worth(double odds, int32_t most) {
  const double row = model_.cost().per_row;
  double chance = odds;
  int32_t count = 0;
  for (; count < most && Pays(chance, row); ++count) {
    tokens_ += chance;
    seconds_ += row;
    chance *= odds;
  }
  return count;
}

}  // namespace pregate
