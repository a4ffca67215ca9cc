#include "engine/model/device_expert_store.h"

#include <algorithm>
#include <cassert>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/expert_lane.h"
#include "engine/model/host_experts.h"
#include "kernels/copy_lane.h"

namespace pregate {
namespace {

// Which pieces have which slots. A slot that was given back is written again after the kernels that
// may read it.
class Slots {
 public:
  Slots(int32_t slots, int32_t pieces) : of_piece_(static_cast<size_t>(pieces), -1) {
    for (int32_t slot = 0; slot < slots; ++slot) free_.push_back({slot, nullptr});
  }

  struct Slot {
    int32_t id;
    CopyLane::Moment after;  // may be null
  };
  Slot Take(int32_t piece) {
    absl::MutexLock lock(&mutex_);
    int32_t& id = of_piece_[static_cast<size_t>(piece)];
    assert(id < 0 && !free_.empty());  // ExpertCache has counted
    Slot slot = std::move(free_.front());
    free_.pop_front();
    id = slot.id;
    return slot;
  }
  void GiveBack(int32_t piece, const CopyLane::Moment& after) {
    absl::MutexLock lock(&mutex_);
    int32_t& id = of_piece_[static_cast<size_t>(piece)];
    if (id >= 0) free_.push_back({std::exchange(id, -1), after});
  }
  int32_t Of(int32_t piece) const {
    absl::MutexLock lock(&mutex_);
    return of_piece_[static_cast<size_t>(piece)];
  }

 private:
  mutable absl::Mutex mutex_;
  std::vector<int32_t> of_piece_ ABSL_GUARDED_BY(mutex_);  // -1: none
  std::deque<Slot> free_ ABSL_GUARDED_BY(mutex_);
};

class DeviceExpertStore : public ExpertStore, private PieceBringer {
 public:
  using Shape = HostExperts::Shape;

  DeviceExpertStore(const Shape& shape, Device* device, std::unique_ptr<CopyLane> copies,
                    DeviceBuffer memory, std::unique_ptr<HostExperts> host)
      : shape_(shape),
        device_(*device),
        copies_(std::move(copies)),
        memory_(std::move(memory)),
        host_(std::move(host)),
        slots_(static_cast<int32_t>(static_cast<int64_t>(memory_.size()) / shape.slot_bytes),
               shape.units * shape.layers),
        lane_(shape.units, shape.layers, this, copies_.get()) {}

  void* Address(int32_t, int32_t) const override { return memory_.data(); }

  absl::Status Save(int32_t unit, int32_t layer) override {
    device_.CopyToHost(host_->Address(unit, layer), memory_.data(),
                       static_cast<size_t>(shape_.BytesOf(unit, layer)));
    return host_->Save(unit, layer);
  }

  void Load(int32_t unit, bool now) override { lane_.Load(unit, now); }
  void Stream(const std::vector<int32_t>& units, int32_t window) override {
    lane_.Stream(units, window);
  }
  void KeepInHost(const std::vector<int32_t>& evicted, const std::vector<int32_t>& kept) override {
    host_->Keep(evicted, kept);
  }

  void LayerRan(int32_t layer) override {
    if (!lane_.streamed().empty()) {
      const CopyLane::Moment ran = copies_->Kernels();
      for (const int32_t unit : lane_.streamed()) slots_.GiveBack(shape_.IndexOf(unit, layer), ran);
    }
    lane_.LayerRan(layer);
  }

  Stall FinishStep() override {
    if (!lane_.streamed().empty()) lane_.SettleStreamed();
    for (const int32_t unit : lane_.streamed()) Drop(unit, false);
    lane_.FinishStep();
    const CopyLane::Stall stall = copies_->TakeStall();
    return {absl::Seconds(stall.seconds), absl::Seconds(stall.copying)};
  }

  void Evict(int32_t unit) override { Drop(unit, true); }

  absl::StatusOr<const char*> Await(int32_t unit, int32_t layer) override {
    if (!lane_.Arrived(unit, layer)) {
      // Before the host waits: the device may have run out of kernels meanwhile.
      const CopyLane::Moment since = copies_->Kernels();
      const absl::StatusOr<CopyLane::Moment> copy = lane_.Await(unit, layer);
      if (!copy.ok()) return copy.status();
      copies_->Hold(since, *copy);
    }
    return At(slots_.Of(shape_.IndexOf(unit, layer)));
  }

  bool Loaded(int32_t unit) const override { return lane_.Loaded(unit); }
  std::vector<Ending> TakeEndings() override { return lane_.TakeEndings(); }
  int64_t unit_bytes(int32_t) const override { return shape_.layers * shape_.slot_bytes; }
  int64_t host_cache_bytes() const override { return host_->cache_bytes(); }
  std::string_view method() const override { return host_->method(); }

 private:
  char* At(int32_t slot) const {
    return static_cast<char*>(memory_.data()) + slot * shape_.slot_bytes;
  }

  // By way of the host's memory, where the piece may be.
  absl::StatusOr<CopyLane::Moment> Bring(int32_t unit, int32_t layer) override {
    const absl::StatusOr<const char*> from = host_->Get(unit, layer);
    if (!from.ok()) return from.status();
    const Slots::Slot slot = slots_.Take(shape_.IndexOf(unit, layer));
    CopyLane::Moment copy = copies_->Start(
        At(slot.id), *from, static_cast<size_t>(shape_.BytesOf(unit, layer)), slot.after);
    host_->Sent(copy);
    return copy;
  }

  // Copies of it that are still under way come before all that its slots are given to.
  void Drop(int32_t unit, bool forgets_ending) {
    lane_.Forget(unit, forgets_ending);
    const CopyLane::Moment kernels = copies_->Kernels();
    for (int32_t layer = 0; layer < shape_.layers; ++layer) {
      slots_.GiveBack(shape_.IndexOf(unit, layer), kernels);
    }
  }

  const Shape shape_;
  Device& device_;
  const std::unique_ptr<CopyLane> copies_;
  const DeviceBuffer memory_;
  const std::unique_ptr<HostExperts> host_;
  Slots slots_;
  ExpertLane lane_;  // last: it ends, and its copies with it, before what it uses
};

}  // namespace

absl::StatusOr<std::unique_ptr<ExpertStore>> MakeDeviceExpertStore(
    const std::vector<std::vector<int64_t>>& piece_bytes, const ExpertMemory& memory,
    const MakeFile& make_file, Device* device) {
  HostExperts::Shape shape;
  shape.units = static_cast<int32_t>(piece_bytes.size());
  shape.layers = static_cast<int32_t>(piece_bytes[0].size());
  shape.slot_bytes = DirectFile::kAlignment;
  for (const std::vector<int64_t>& layers : piece_bytes) {
    for (const int64_t bytes : layers) {
      const int64_t pages = (bytes + DirectFile::kAlignment - 1) / DirectFile::kAlignment;
      shape.piece_bytes.push_back(pages * DirectFile::kAlignment);
      shape.slot_bytes = std::max(shape.slot_bytes, shape.piece_bytes.back());
    }
  }
  const int64_t slots = memory.bytes / shape.slot_bytes;
  if (slots < shape.layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("expert-cache-memory: must hold the largest expert, ",
                     shape.layers * shape.slot_bytes, " bytes; got ", memory.bytes));
  }
  absl::StatusOr<std::unique_ptr<CopyLane>> copies = device->MakeCopyLane();
  if (!copies.ok()) return copies.status();
  std::unique_ptr<DirectFile> file;
  if (memory.host_bytes > 0 && memory.host_bytes < shape.bytes()) {
    absl::StatusOr<std::unique_ptr<DirectFile>> made = make_file();
    if (!made.ok()) return made.status();
    file = *std::move(made);
  }
  absl::StatusOr<std::unique_ptr<HostExperts>> host =
      HostExperts::Create(shape, memory.host_bytes, std::move(file), copies->get());
  if (!host.ok()) return host.status();
  absl::StatusOr<DeviceBuffer> buffer =
      device->Allocate(static_cast<size_t>(slots * shape.slot_bytes));
  if (!buffer.ok()) return buffer.status();
  return std::make_unique<DeviceExpertStore>(shape, device, *std::move(copies), *std::move(buffer),
                                             *std::move(host));
}

}  // namespace pregate
