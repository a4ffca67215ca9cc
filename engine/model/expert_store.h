// ExpertStore: the memory behind expert units that do not all fit. It decides nothing: the plan
// says what comes and what goes.
//
// A unit (an expert, or a block of neurons that several experts share) has one piece in every
// layer, which is kept in the very form that the kernels read: loading is reading, or copying. In
// the host's memory each piece has an address of its own, and memory behind it while it is loaded
// (file_expert_store.cc); a device with memory of its own has slots, which pieces share
// (device_expert_store.h).
#ifndef PREGATE_ENGINE_MODEL_EXPERT_STORE_H_
#define PREGATE_ENGINE_MODEL_EXPERT_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/model/direct_file.h"
#include "engine/plan/batch_plan.h"

namespace pregate {

// Where expert weights go if they do not all fit.
struct ExpertMemory {
  int64_t bytes = 0;       // that may be in the device's memory at once; 0: as many as there are
  std::string folder;      // for a file with all of them
  int64_t host_bytes = 0;  // where the device has memory of its own: of the host; 0: as `bytes`
};

class ExpertStore {
 public:
  // In the host's memory. `piece_bytes` is [units][layers], at least one unit and one layer; `file`
  // is empty. RESOURCE_EXHAUSTED: no addresses are left.
  static absl::StatusOr<std::unique_ptr<ExpertStore>> Create(
      const std::vector<std::vector<int64_t>>& piece_bytes, std::unique_ptr<DirectFile> file);

  // The same for pieces of which each is several runs of bytes, at offsets from one address that
  // the caller has laid out: units that are tiles of the same matrices. Runs begin at multiples of
  // DirectFile::kAlignment and share no such page; a piece may have none.
  struct Run {
    int64_t offset = 0;
    int64_t bytes = 0;
  };
  using Runs = std::vector<std::vector<std::vector<Run>>>;  // [units][layers][]
  static absl::StatusOr<std::unique_ptr<ExpertStore>> CreateScattered(
      const Runs& runs, std::unique_ptr<DirectFile> file);
  virtual ~ExpertStore() = default;

  // Where a piece is written while the model loads, in the device's memory: one after the other,
  // each saved before the next. Aligned as its buffers are, or better. Of scattered pieces the
  // address that all offsets are from.
  virtual void* Address(int32_t unit, int32_t layer) const = 0;

  // Keeps what stands at a piece's address, whose memory may then be another's. RESOURCE_EXHAUSTED:
  // the disk is full.
  virtual absl::Status Save(int32_t unit, int32_t layer) = 0;

  // Starts to load a unit, layer by layer. Those that are needed `now` come before the others, and
  // layer l of all of them before layer l + 1 of any. One that is under way or loaded is left
  // alone, but for its turn.
  virtual void Load(int32_t unit, bool now) = 0;

  // Starts to stream units through the step that begins, beside its loads: the pieces of at most
  // `window` layers of each are in memory at once, from the layer that runs on.
  virtual void Stream(const std::vector<int32_t>& units, int32_t window) = 0;

  // Of what comes from the disk, where a device's memory stands before the host's: which units lose
  // their place in the latter, and which keep one from their next load on.
  virtual void KeepInHost(const std::vector<int32_t>& evicted,
                          const std::vector<int32_t>& kept) = 0;

  // Does what a plan says: what it evicts goes, then its loads start.
  void Start(const BatchPlan& plan) {
    KeepInHost(plan.host_evicted_units, plan.host_kept_units);
    for (const int32_t unit : plan.evicted_units) Evict(unit);
    for (const int32_t unit : plan.loads_now) Load(unit, true);
    Stream(plan.streamed_units, plan.stream_layers);
    for (const int32_t unit : plan.loads_next) Load(unit, false);
  }

  // A layer of the step has run, or its kernels have been issued, and those of the layers before:
  // the memory of its streamed pieces is taken back.
  virtual void LayerRan(int32_t layer) = 0;

  // The step is over, whether it ran to its end or not: what was streamed goes. Returns what the
  // device has stood still for Await since the last call, steps that have not run to their end left
  // out, and how much of that something was under way.
  struct Stall {
    absl::Duration time;
    absl::Duration copying;
  };
  virtual Stall FinishStep() = 0;

  // Takes a unit's memory back, whether it is loaded, under way or neither.
  virtual void Evict(int32_t unit) = 0;

  // Where a piece of a unit that was asked for is, for the kernels that are issued next. Waits
  // until it is there, or has them wait for it. DATA_LOSS: it could not be read; the unit must be
  // evicted before it is asked for again.
  virtual absl::StatusOr<const char*> Await(int32_t unit, int32_t layer) = 0;

  // Whether all pieces are there.
  virtual bool Loaded(int32_t unit) const = 0;

  // Units whose loading has ended since the last call, in order.
  struct Ending {
    int32_t unit = 0;
    bool ok = false;
    absl::Duration reading;  // time that the lane spent on it
  };
  virtual std::vector<Ending> TakeEndings() = 0;

  virtual int64_t unit_bytes(int32_t unit) const = 0;  // of memory, all layers
  // Of `host_bytes`, for KeepInHost; 0: nothing comes from a disk, or nothing stands before it.
  virtual int64_t host_cache_bytes() const { return 0; }
  virtual std::string_view method()
      const = 0;  // see DirectFile::method; "memory": there is no file
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_EXPERT_STORE_H_
