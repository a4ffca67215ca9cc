// The copy lane of a GPU: a stream of its own, and events between it and that of the kernels.
#ifndef PREGATE_KERNELS_CUDA_CUDA_COPY_LANE_H_
#define PREGATE_KERNELS_CUDA_CUDA_COPY_LANE_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/copy_lane.h"

namespace pregate {

class CudaCopyLane : public CopyLane {
 public:
  // Beside the kernels of this stream, which must outlive the lane.
  explicit CudaCopyLane(cudaStream_t kernels);
  ~CudaCopyLane() override;

  absl::StatusOr<HostMemory> AllocateHost(size_t bytes) override;
  Moment Kernels() override;
  void Hold(const Moment& since, const Moment& copy) override;
  Stall TakeStall() override;
  Moment Start(void* dst, const void* src, size_t bytes, const Moment& after) override;
  void Await(const Moment& copy) override;

 private:
  class Recorded;
  using Handle = std::shared_ptr<Recorded>;
  struct Copy {
    Handle begin, end;
  };
  struct Pause {
    Handle begin, end;  // in the stream of the kernels
    int64_t newest;     // of the copies that may have run meanwhile
  };

  // The event behind what has been issued in the stream; of the copy with this number, if it ends
  // one.
  Handle Record(cudaStream_t stream, int64_t copy = -1);
  double CopyingIn(const Pause& pause, double seconds) const;

  const cudaStream_t kernels_;
  cudaStream_t copies_ = nullptr;
  int device_ = 0;

  std::mutex idle_mutex_;
  std::vector<cudaEvent_t> idle_;

  std::mutex mutex_;          // of what is below
  std::deque<Copy> started_;  // without those that no pause can meet any more
  int64_t forgotten_ = 0;     // those: the number of the first that is left
  std::deque<Pause> pauses_;  // that have not been counted
};

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_CUDA_COPY_LANE_H_
