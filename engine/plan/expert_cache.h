// ExpertCache: which units of the experts' weights are in memory, and which give way. Ids, bytes
// and counts only; the memory is ExpertStore's.
#ifndef PREGATE_ENGINE_PLAN_EXPERT_CACHE_H_
#define PREGATE_ENGINE_PLAN_EXPERT_CACHE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/plan/batch_plan.h"

namespace pregate {

enum class ExpertEviction : uint8_t {
  kPlanned,  // the unit that the fewest rows are expected to need next
  kLru,      // the others for comparison
  kLfu,
  kRandom,
};

// Why a unit was loaded.
enum class LoadCause : uint8_t {
  kKnown,    // a row whose expert is known needs it
  kGuessed,  // one may come
  kDemand,   // a layer asked for it while it ran
};
inline constexpr int32_t kLoadCauses = 3;

struct ExpertCacheStats {
  static constexpr int32_t kLookaheads = 8;
  // Units that plans needed: in memory when the step was planned, on their way, or neither. Pinned
  // units are not counted.
  int64_t hits = 0;
  int64_t late = 0;
  int64_t misses = 0;
  std::array<int64_t, kLoadCauses> loads = {};
  std::array<int64_t, kLoadCauses> load_bytes = {};
  std::array<int64_t, kLoadCauses> wasted_bytes = {};  // evicted before any plan needed them
  int64_t failed_loads = 0;
  // Loads by how many plans before its first use each began; the last counts all longer ones.
  std::array<int64_t, kLookaheads> lookahead = {};
  int64_t lookahead_steps = 0;  // of all of them together
  int64_t resident_bytes = 0;   // and what is being loaded, pinned units included
};

class ExpertCache {
 public:
  struct Unit {
    int64_t bytes = 0;
    bool pinned = false;  // in memory from the start, for ever
  };
  // Rows expected of a unit that was loaded for somebody who waits: it stays, whatever evicts.
  static constexpr double kPromised = 1e6;

  enum class State : uint8_t { kAbsent, kLoading, kResident };

  // The pinned units must fit in `capacity` bytes. A unit has a piece in each of `layers`, all
  // about as large. `seed` is of kRandom.
  ExpertCache(std::vector<Unit> units, int64_t capacity, int32_t layers, ExpertEviction eviction,
              uint64_t seed);

  // A new plan, which needs `units` (each once). Evicts and loads what it takes, into the plan's
  // lists; those that do not fit are streamed, and two layers of them must fit beside what is
  // pinned, promised or being loaded. What the plan before needed may now be evicted. `expected[u]`
  // is how many rows are expected to need unit u next; kPlanned evicts the lowest first.
  void Open(const std::vector<int32_t>& units, const std::vector<double>& expected,
            BatchPlan* plan);

  // Loads absent ones of `units` for a later plan as well, unless this plan streams, or what has to
  // give way is needed by it, on its way itself, or expected to be needed by half of `worth` rows
  // or more, all together.
  bool Prefetch(const std::vector<int32_t>& units, double worth, LoadCause cause,
                const std::vector<double>& expected, BatchPlan* plan);

  // A layer of the running step needs a unit that the plan did not name. False: no room beside what
  // the plan needs. The unit is the plan's from now on.
  bool Demand(int32_t unit, const std::vector<double>& expected, BatchPlan* plan);

  // A load has ended. Idempotent.
  void Loaded(int32_t unit);
  // A load has failed: the unit is absent.
  void Failed(int32_t unit);
  // The plan is over, and with it the loads of what it needed: those not told to have failed are
  // there.
  void Close();

  State state(int32_t unit) const { return units_[unit].state; }
  bool needed(int32_t unit) const { return units_[unit].needed == plan_number_; }
  bool loading() const { return loading_ > 0 || stream_bytes_ > 0; }
  int64_t capacity() const { return capacity_; }
  const ExpertCacheStats& stats() const { return stats_; }

  // "" or what is broken.
  std::string CheckInvariants() const;

 private:
  struct Entry {
    int64_t bytes = 0;
    bool pinned = false;
    State state = State::kAbsent;
    LoadCause cause = LoadCause::kKnown;
    bool used = false;      // since it was loaded
    int64_t loaded_at = 0;  // number of the plan that began to load it
    int64_t needed = -1;    // number of the newest plan that needs it
    int64_t streamed = -1;  // and of the newest that streams it
    int64_t uses = 0;       // plans that needed it
  };

  std::vector<int32_t> MakeRoom(const std::vector<int32_t>& units,
                                const std::vector<double>& expected, BatchPlan* plan);
  void Count(int32_t unit);
  void LoadSome(std::vector<int32_t>* absent, const std::vector<double>& expected, BatchPlan* plan);
  void Stream(const std::vector<int32_t>& units, BatchPlan* plan);
  void CountLoad(int32_t unit, LoadCause cause);
  int64_t BytesInWindow(const std::vector<int32_t>& units, int32_t window) const;
  int64_t room() const { return capacity_ - stats_.resident_bytes - stream_bytes_; }
  void StartLoad(int32_t unit, LoadCause cause, std::vector<int32_t>* list);
  void Evict(int32_t unit, BatchPlan* plan);
  // Units that may be evicted, those that no plan needs first, then as the policy has it.
  std::vector<int32_t> Evictable(const std::vector<double>& expected);
  // Of those that the plan does not need, so many that `bytes` more fit; false: there are not
  // enough.
  bool Victims(int64_t bytes, const std::vector<double>& expected, std::vector<int32_t>* victims);
  double Keep(int32_t unit, const std::vector<double>& expected);

  const int64_t capacity_;
  const int32_t layers_;
  const ExpertEviction eviction_;
  std::vector<Entry> units_;
  int32_t loading_ = 0;
  int64_t stream_bytes_ = 0;  // of the running plan's streamed units, in memory at once
  int64_t plan_number_ = 0;
  uint64_t random_;
  ExpertCacheStats stats_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_EXPERT_CACHE_H_
