// HostExperts: expert pieces in memory of the host that a device copies from. All of them, or as
// many as fit, with all of them in a file.
#ifndef PREGATE_ENGINE_MODEL_HOST_EXPERTS_H_
#define PREGATE_ENGINE_MODEL_HOST_EXPERTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/direct_file.h"
#include "kernels/copy_lane.h"

namespace pregate {

class HostExperts {
 public:
  // All sizes are multiples of DirectFile::kAlignment.
  struct Shape {
    int32_t units = 0;
    int32_t layers = 0;
    std::vector<int64_t> piece_bytes;  // [units][layers]
    int64_t slot_bytes = 0;            // of the largest

    int64_t bytes() const { return int64_t{units} * layers * slot_bytes; }
    int32_t IndexOf(int32_t unit, int32_t layer) const { return unit * layers + layer; }
    int64_t BytesOf(int32_t unit, int32_t layer) const {
      return piece_bytes[static_cast<size_t>(IndexOf(unit, layer))];
    }
  };

  // `file` is empty; null: all pieces stay in memory, of which `bytes` is the bound otherwise.
  // INVALID_ARGUMENT: that is not even enough for what passes through. `copies` must outlive this.
  static absl::StatusOr<std::unique_ptr<HostExperts>> Create(const Shape& shape, int64_t bytes,
                                                             std::unique_ptr<DirectFile> file,
                                                             CopyLane* copies);

  // While the model loads: where a piece is to be written, and that it has been; one after the
  // other. RESOURCE_EXHAUSTED: the disk is full.
  char* Address(int32_t unit, int32_t layer);
  absl::Status Save(int32_t unit, int32_t layer);

  // Units that give their places up, and those that keep one for each piece once it is read.
  void Keep(const std::vector<int32_t>& evicted, const std::vector<int32_t>& kept);

  // --- From one thread, which may be another. ---

  // Where a piece is, until the next call; reads it if need be. DATA_LOSS: it cannot be read.
  absl::StatusOr<const char*> Get(int32_t unit, int32_t layer);
  // A copy of what Get has returned last was issued: until it is done, the memory stays as it is.
  void Sent(const CopyLane::Moment& copy);

  // Of units that are kept, all together; 0: there is no file.
  int64_t cache_bytes() const { return cache_bytes_; }
  std::string_view method() const { return file_ == nullptr ? "memory" : file_->method(); }

 private:
  struct Place {
    int32_t slot = -1;
    bool filled = false;
  };

  HostExperts(const Shape& shape, CopyLane::HostMemory memory, int32_t slots,
              std::unique_ptr<DirectFile> file, CopyLane* copies);
  char* At(int64_t slot) const { return memory_.get() + slot * shape_.slot_bytes; }
  Place& PlaceOf(int32_t unit, int32_t layer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return places_[static_cast<size_t>(shape_.IndexOf(unit, layer))];
  }
  int32_t Reserve(int32_t unit, int32_t layer);

  const Shape shape_;
  const CopyLane::HostMemory memory_;
  const std::unique_ptr<DirectFile> file_;
  CopyLane& copies_;
  int64_t cache_bytes_ = 0;

  // Of the thread that gets.
  std::vector<CopyLane::Moment> copied_;  // [slots] the newest copy of what it holds
  int32_t passing_ = 0;                   // slots that what is not kept passes through, in turn
  int32_t got_ = -1;                      // slot of the last Get

  absl::Mutex mutex_;
  std::vector<bool> kept_ ABSL_GUARDED_BY(mutex_);     // [units]
  std::vector<Place> places_ ABSL_GUARDED_BY(mutex_);  // [units][layers] of those kept
  std::vector<int32_t> free_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_HOST_EXPERTS_H_
