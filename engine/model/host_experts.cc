#include "engine/model/host_experts.h"

#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

// One is read into while copies of two others are under way (ExpertLane).
constexpr int32_t kPassing = 3;

}  // namespace

HostExperts::HostExperts(const Shape& shape, CopyLane::HostMemory memory, int32_t slots,
                         std::unique_ptr<DirectFile> file, CopyLane* copies)
    : shape_(shape),
      memory_(std::move(memory)),
      file_(std::move(file)),
      copies_(*copies),
      copied_(static_cast<size_t>(slots)),
      kept_(static_cast<size_t>(shape.units)),
      places_(static_cast<size_t>(shape.IndexOf(shape.units, 0))) {
  if (file_ == nullptr) return;
  cache_bytes_ = (slots - kPassing) * shape.slot_bytes;
  for (int32_t slot = slots - 1; slot >= kPassing; --slot) free_.push_back(slot);
}

absl::StatusOr<std::unique_ptr<HostExperts>> HostExperts::Create(const Shape& shape, int64_t bytes,
                                                                 std::unique_ptr<DirectFile> file,
                                                                 CopyLane* copies) {
  int64_t slots = int64_t{shape.units} * shape.layers;
  if (file != nullptr) {
    slots = bytes / shape.slot_bytes;
    if (slots < kPassing) {
      return absl::InvalidArgumentError(
          absl::StrCat("expert-host-memory: must hold ", kPassing, " layers of an expert, ",
                       kPassing * shape.slot_bytes, " bytes; got ", bytes));
    }
  }
  absl::StatusOr<CopyLane::HostMemory> memory =
      copies->AllocateHost(static_cast<size_t>(slots * shape.slot_bytes));
  if (!memory.ok()) return memory.status();
  return std::unique_ptr<HostExperts>(new HostExperts(
      shape, *std::move(memory), static_cast<int32_t>(slots), std::move(file), copies));
}

char* HostExperts::Address(int32_t unit, int32_t layer) {
  return At(file_ == nullptr ? shape_.IndexOf(unit, layer) : 0);
}

absl::Status HostExperts::Save(int32_t unit, int32_t layer) {
  if (file_ == nullptr) return absl::OkStatus();
  return file_->Write(shape_.IndexOf(unit, layer) * shape_.slot_bytes, At(0),
                      shape_.BytesOf(unit, layer));
}

void HostExperts::Keep(const std::vector<int32_t>& evicted, const std::vector<int32_t>& kept) {
  absl::MutexLock lock(&mutex_);
  for (const int32_t unit : evicted) {
    kept_[static_cast<size_t>(unit)] = false;
    for (int32_t layer = 0; layer < shape_.layers; ++layer) {
      Place& place = PlaceOf(unit, layer);
      if (place.slot >= 0) free_.push_back(place.slot);
      place = {};
    }
  }
  for (const int32_t unit : kept) kept_[static_cast<size_t>(unit)] = true;
}

// The slot of a piece that is to be read.
int32_t HostExperts::Reserve(int32_t unit, int32_t layer) {
  absl::MutexLock lock(&mutex_);
  Place& place = PlaceOf(unit, layer);
  if (kept_[static_cast<size_t>(unit)] && place.slot < 0) {
    assert(!free_.empty());
    place.slot = free_.back();
    free_.pop_back();
  }
  return place.slot >= 0 ? place.slot : std::exchange(passing_, (passing_ + 1) % kPassing);
}

absl::StatusOr<const char*> HostExperts::Get(int32_t unit, int32_t layer) {
  const int32_t index = shape_.IndexOf(unit, layer);
  if (file_ == nullptr) {
    got_ = index;
    return At(index);
  }
  {
    absl::MutexLock lock(&mutex_);
    const Place& place = PlaceOf(unit, layer);
    if (place.filled) {
      got_ = place.slot;
      return At(place.slot);
    }
  }
  const int32_t slot = Reserve(unit, layer);
  CopyLane::Moment& copied = copied_[static_cast<size_t>(slot)];
  if (copied != nullptr) copies_.Await(copied);
  copied = nullptr;
  const absl::Status status =
      file_->Read(index * shape_.slot_bytes, At(slot), shape_.BytesOf(unit, layer));
  if (!status.ok()) return status;
  absl::MutexLock lock(&mutex_);
  Place& place = PlaceOf(unit, layer);
  place.filled = place.slot == slot;  // it may have lost its place meanwhile
  got_ = slot;
  return At(slot);
}

void HostExperts::Sent(const CopyLane::Moment& copy) { copied_[static_cast<size_t>(got_)] = copy; }

}  // namespace pregate
