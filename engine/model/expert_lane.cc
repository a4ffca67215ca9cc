#include "engine/model/expert_lane.h"

#include <algorithm>
#include <cassert>
#include <tuple>
#include <utility>

#include "absl/time/clock.h"

namespace pregate {
namespace {

// Copies that are under way together: one runs while the next one waits for it. More would keep
// what is needed at once behind what is not.
constexpr size_t kCopiesUnderWay = 2;

}  // namespace

ExpertLane::ExpertLane(int32_t units, int32_t layers, PieceBringer* bringer, CopyLane* copies)
    : layers_(layers),
      bringer_(*bringer),
      copies_(copies),
      units_(static_cast<size_t>(units)),
      thread_([this] { Run(); }) {}

ExpertLane::~ExpertLane() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void ExpertLane::Load(int32_t index, bool now) {
  absl::MutexLock lock(&mutex_);
  Unit& unit = units_[static_cast<size_t>(index)];
  if (!unit.asked) Ask(&unit);
  unit.now |= now;
}

void ExpertLane::Stream(const std::vector<int32_t>& units, int32_t window) {
  absl::MutexLock lock(&mutex_);
  streamed_ = units;
  window_ = window;
  for (const int32_t index : units) {
    Unit& unit = units_[static_cast<size_t>(index)];
    assert(!unit.asked);
    Ask(&unit);
    unit.now = unit.streamed = true;
  }
}

void ExpertLane::LayerRan(int32_t layer) {
  absl::MutexLock lock(&mutex_);
  layers_ran_ = layer + 1;
}

void ExpertLane::SettleStreamed() {
  absl::MutexLock lock(&mutex_);
  const auto settled = [this] {
    return bringing_ >= 0 ||
           std::none_of(under_way_.begin(), under_way_.end(), [this](const Copy& copy) {
             return units_[static_cast<size_t>(copy.unit)].streamed;
           });
  };
  mutex_.Await(absl::Condition(&settled));
}

void ExpertLane::FinishStep() {
  streamed_.clear();
  absl::MutexLock lock(&mutex_);
  layers_ran_ = 0;
}

bool ExpertLane::Loaded(int32_t unit) const {
  absl::MutexLock lock(&mutex_);
  return IsLoaded(units_[static_cast<size_t>(unit)]);
}

std::vector<ExpertStore::Ending> ExpertLane::TakeEndings() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(endings_, {});
}

void ExpertLane::Ask(Unit* unit) {
  unit->asked = true;
  unit->now = unit->streamed = unit->ended = false;
  unit->turn = turns_++;
  unit->bringing = absl::ZeroDuration();
}

void ExpertLane::Forget(int32_t index, bool forgets_ending) {
  absl::MutexLock lock(&mutex_);
  Unit& unit = units_[static_cast<size_t>(index)];
  unit.asked = false;
  const auto left_alone = [this, index] { return bringing_ != index; };
  mutex_.Await(absl::Condition(&left_alone));
  unit.brought = unit.arrived = 0;
  unit.now = false;
  unit.status = absl::OkStatus();
  if (!forgets_ending) return;
  std::erase_if(endings_,
                [index](const ExpertStore::Ending& ending) { return ending.unit == index; });
}

bool ExpertLane::Arrived(int32_t unit, int32_t layer) const {
  absl::MutexLock lock(&mutex_);
  return units_[static_cast<size_t>(unit)].arrived > layer;
}

absl::StatusOr<CopyLane::Moment> ExpertLane::Await(int32_t index, int32_t layer) {
  absl::MutexLock lock(&mutex_);
  Unit& unit = units_[static_cast<size_t>(index)];
  assert(unit.asked);
  if (unit.brought <= layer) {
    const absl::Time start = absl::Now();
    const auto settled = [&unit, layer] { return unit.brought > layer || !unit.status.ok(); };
    mutex_.Await(absl::Condition(&settled));
    waited_ += absl::Now() - start;
    if (unit.brought <= layer) return unit.status;
  }
  if (unit.arrived > layer) return nullptr;
  const auto copy = std::find_if(under_way_.begin(), under_way_.end(), [&](const Copy& c) {
    return c.unit == index && c.layer == layer && c.turn == unit.turn;
  });
  assert(copy != under_way_.end());
  return copy->done;
}

absl::Duration ExpertLane::TakeWaited() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(waited_, absl::ZeroDuration());
}

// The unit whose next piece is to come, or -1.
int32_t ExpertLane::Next() const {
  const auto rank = [](const Unit& unit) {
    // What is needed now goes by layer, what comes later unit by unit.
    return std::make_tuple(!unit.now, unit.now ? unit.brought : 0, unit.turn);
  };
  int32_t best = -1;
  for (int32_t i = 0; i < static_cast<int32_t>(units_.size()); ++i) {
    const Unit& unit = units_[static_cast<size_t>(i)];
    if (!unit.asked || unit.brought == layers_ || !unit.status.ok()) continue;
    if (unit.streamed && unit.brought >= layers_ran_ + window_) continue;
    if (best < 0 || rank(unit) < rank(units_[static_cast<size_t>(best)])) best = i;
  }
  return best;
}

bool ExpertLane::HasWork() const { return stopping_ || !under_way_.empty() || Next() >= 0; }

void ExpertLane::Run() {
  absl::MutexLock lock(&mutex_);
  while (true) {
    mutex_.Await(absl::Condition(this, &ExpertLane::HasWork));
    if (stopping_) break;
    const int32_t index = under_way_.size() < kCopiesUnderWay ? Next() : -1;
    index >= 0 ? BringOne(index) : SettleOne();
  }
  while (!under_way_.empty()) SettleOne();
}

void ExpertLane::BringOne(int32_t index) {
  bringing_ = index;
  Unit& unit = units_[static_cast<size_t>(index)];
  const int32_t layer = unit.brought;
  const uint64_t turn = unit.turn;
  mutex_.Unlock();
  const absl::Time start = absl::Now();
  absl::StatusOr<CopyLane::Moment> copy = bringer_.Bring(index, layer);
  const absl::Time end = absl::Now();
  mutex_.Lock();
  unit.bringing += end - start;
  if (!copy.ok()) {
    unit.status = copy.status();
  } else {
    ++unit.brought;
    if (*copy == nullptr) ++unit.arrived;
    if (*copy != nullptr) under_way_.push_back({index, layer, turn, *std::move(copy), end});
  }
  EndIfDone(index);
  bringing_ = -1;
}

// Waits for the oldest copy.
void ExpertLane::SettleOne() {
  CopyLane::Moment done = under_way_.front().done;
  mutex_.Unlock();
  copies_->Await(done);
  const absl::Time now = absl::Now();
  mutex_.Lock();
  const Copy copy = std::move(under_way_.front());
  under_way_.pop_front();
  Unit& unit = units_[static_cast<size_t>(copy.unit)];
  if (unit.asked && unit.turn == copy.turn) {
    ++unit.arrived;
    unit.bringing += now - std::max(copy.issued, settled_);
    EndIfDone(copy.unit);
  }
  settled_ = now;
}

// A unit that is all there has ended its load, and so has one that failed.
void ExpertLane::EndIfDone(int32_t index) {
  Unit& unit = units_[static_cast<size_t>(index)];
  if (!unit.asked || unit.ended || (!IsLoaded(unit) && unit.status.ok())) return;
  unit.ended = true;
  endings_.push_back({index, unit.status.ok(), unit.bringing});
}

}  // namespace pregate
