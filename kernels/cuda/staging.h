// Copies between the host's memory and the device's by way of pinned memory, which the device's
// copy engines reach by themselves.
#ifndef PREGATE_KERNELS_CUDA_STAGING_H_
#define PREGATE_KERNELS_CUDA_STAGING_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"

namespace pregate {

// Pieces of pinned memory, each with an event that says when the device has done with it.
class PinnedPieces {
 public:
  // RESOURCE_EXHAUSTED: the system gives no pinned memory.
  static absl::StatusOr<PinnedPieces> Create(size_t piece_bytes, int pieces);
  PinnedPieces() = default;
  PinnedPieces(PinnedPieces&& other) noexcept { *this = std::move(other); }
  PinnedPieces& operator=(PinnedPieces&& other) noexcept;
  ~PinnedPieces();

  size_t piece_bytes() const { return piece_bytes_; }
  size_t size() const { return events_.size(); }
  char* At(size_t piece) const { return memory_ + piece * piece_bytes_; }
  // What has been issued in the stream so far is what Await waits for.
  void Mark(size_t piece, cudaStream_t stream) const;
  void Await(size_t piece) const;

 private:
  char* memory_ = nullptr;
  size_t piece_bytes_ = 0;
  std::vector<cudaEvent_t> events_;
};

// To the device: returns as soon as the bytes stand in the ring, and waits only where all of it is
// still to be copied.
class UploadRing {
 public:
  static absl::StatusOr<UploadRing> Create();

  void Copy(void* dst, const void* host_src, size_t bytes, cudaStream_t stream);

 private:
  PinnedPieces pieces_;
  size_t piece_ = 0;  // that is being filled
  size_t used_ = 0;   // bytes of it
};

// To the host: the device fills one piece while the host empties the other.
class Download {
 public:
  static absl::StatusOr<Download> Create();

  void Copy(void* host_dst, const void* src, size_t bytes, cudaStream_t stream);

 private:
  PinnedPieces pieces_;
};

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_STAGING_H_
