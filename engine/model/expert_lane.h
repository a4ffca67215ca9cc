// ExpertLane: in which order pieces of expert units come, and the thread that brings one after the
// other. It knows neither memory nor files.
#ifndef PREGATE_ENGINE_MODEL_EXPERT_LANE_H_
#define PREGATE_ENGINE_MODEL_EXPERT_LANE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/model/expert_store.h"
#include "kernels/copy_lane.h"

namespace pregate {

// Brings one piece: returns when it is there (a null moment), or when its copy has been issued.
// Called by the lane's thread.
class PieceBringer {
 public:
  virtual ~PieceBringer() = default;
  virtual absl::StatusOr<CopyLane::Moment> Bring(int32_t unit, int32_t layer) = 0;
};

// Calls are from one thread, which is not the lane's, but for Loaded and TakeEndings.
class ExpertLane {
 public:
  // `copies`: of the moments that `bringer` returns; null: it returns none. Both must outlive this.
  ExpertLane(int32_t units, int32_t layers, PieceBringer* bringer, CopyLane* copies);
  ~ExpertLane();

  // As ExpertStore has them.
  void Load(int32_t unit, bool now);
  void Stream(const std::vector<int32_t>& units, int32_t window);
  void LayerRan(int32_t layer);
  bool Loaded(int32_t unit) const;
  std::vector<ExpertStore::Ending> TakeEndings();

  // Waits until what is under way of streamed units is there, so that their endings are told, but
  // not for what the thread is still bringing.
  void SettleStreamed();
  // The step is over.
  void FinishStep();
  // What the step streams.
  const std::vector<int32_t>& streamed() const { return streamed_; }

  // Asks for the unit no longer, and returns once the thread has left it alone. A copy of it may
  // still be under way. `forgets_ending`: TakeEndings shall not tell of it either.
  void Forget(int32_t unit, bool forgets_ending);

  // Whether a piece of a unit that was asked for is there.
  bool Arrived(int32_t unit, int32_t layer) const;
  // Waits until it is, or its copy is under way, which is returned. DATA_LOSS: it cannot be had.
  absl::StatusOr<CopyLane::Moment> Await(int32_t unit, int32_t layer);
  // What Await has waited since the last call.
  absl::Duration TakeWaited();

 private:
  struct Unit {
    bool asked = false;
    bool now = false;
    bool streamed = false;
    bool ended = false;
    uint64_t turn = 0;  // order in which it was asked for
    absl::Status status;
    int32_t brought = 0;  // layers before this one are there or under way
    int32_t arrived = 0;  // and before this one there
    absl::Duration bringing;
  };
  struct Copy {
    int32_t unit;
    int32_t layer;
    uint64_t turn;
    CopyLane::Moment done;
    absl::Time issued;
  };

  bool IsLoaded(const Unit& unit) const { return unit.arrived == layers_; }
  void Ask(Unit* unit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int32_t Next() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void BringOne(int32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SettleOne() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndIfDone(int32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run();

  const int32_t layers_;
  PieceBringer& bringer_;
  CopyLane* const copies_;
  std::vector<int32_t> streamed_;  // of the step; only its thread changes it
  mutable absl::Mutex mutex_;
  std::vector<Unit> units_ ABSL_GUARDED_BY(mutex_);
  std::deque<Copy> under_way_ ABSL_GUARDED_BY(mutex_);
  absl::Time settled_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();  // the copy before
  uint64_t turns_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t bringing_ ABSL_GUARDED_BY(mutex_) = -1;  // unit that the thread is at
  std::vector<ExpertStore::Ending> endings_ ABSL_GUARDED_BY(mutex_);
  absl::Duration waited_ ABSL_GUARDED_BY(mutex_);
  int32_t window_ ABSL_GUARDED_BY(mutex_) = 0;      // layers of each streamed unit at once
  int32_t layers_ran_ ABSL_GUARDED_BY(mutex_) = 0;  // of the step
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_EXPERT_LANE_H_
