#include "kernels/cuda/cuda_copy_lane.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/check.h"

namespace pregate {
namespace {

bool HasPassed(cudaEvent_t event) {
  const cudaError_t error = cudaEventQuery(event);
  if (error == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());  // it is none
    return false;
  }
  CheckCuda(error, "an event");
  return true;
}

// From one event to another, below 0 where that one came first; of both that have passed.
double SecondsBetween(cudaEvent_t from, cudaEvent_t to) {
  float milliseconds = 0;
  if (cudaEventElapsedTime(&milliseconds, from, to) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // what cannot be measured is not counted
    return 0;
  }
  return milliseconds * 1e-3;
}

}  // namespace

// Goes back to the lane when nobody needs it.
class CudaCopyLane::Recorded : public CopyLane::Event {
 public:
  Recorded(CudaCopyLane* lane, cudaEvent_t event, int64_t copy)
      : lane_(*lane), event_(event), copy_(copy) {}
  ~Recorded() override {
    const std::lock_guard lock(lane_.idle_mutex_);
    lane_.idle_.push_back(event_);
  }
  static const Recorded& Of(const Moment& moment) { return static_cast<const Recorded&>(*moment); }

  cudaEvent_t event() const { return event_; }
  int64_t copy() const { return copy_; }

 private:
  CudaCopyLane& lane_;
  const cudaEvent_t event_;
  const int64_t copy_;
};

CudaCopyLane::CudaCopyLane(cudaStream_t kernels) : kernels_(kernels) {
  CheckCuda(cudaGetDevice(&device_), "device");
  CheckCuda(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking), "stream");
}

CudaCopyLane::~CudaCopyLane() {
  CheckCuda(cudaStreamSynchronize(copies_), "waiting for copies");
  pauses_.clear();
  started_.clear();
  for (const cudaEvent_t event : idle_) CheckCuda(cudaEventDestroy(event), "event");
  CheckCuda(cudaStreamDestroy(copies_), "stream");
}

absl::StatusOr<CopyLane::HostMemory> CudaCopyLane::AllocateHost(size_t bytes) {
  void* memory = nullptr;
  if (const cudaError_t error =
          cudaHostAlloc(&memory, std::max<size_t>(bytes, 1), cudaHostAllocDefault);
      error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // it is dealt with
    return absl::ResourceExhaustedError(absl::StrCat(
        "device: cannot pin ", bytes, " bytes of memory: ", cudaGetErrorString(error)));
  }
  return HostMemory(static_cast<char*>(memory),
                    [](char* data) { CheckCuda(cudaFreeHost(data), "pinned memory"); });
}

CudaCopyLane::Handle CudaCopyLane::Record(cudaStream_t stream, int64_t copy) {
  cudaEvent_t event = nullptr;
  {
    const std::lock_guard lock(idle_mutex_);
    if (!idle_.empty()) {
      event = idle_.back();
      idle_.pop_back();
    }
  }
  if (event == nullptr) {
    CheckCuda(cudaEventCreateWithFlags(&event, cudaEventBlockingSync), "event");
  }
  CheckCuda(cudaEventRecord(event, stream), "event");
  return std::make_shared<Recorded>(this, event, copy);
}

CopyLane::Moment CudaCopyLane::Kernels() { return Record(kernels_); }

void CudaCopyLane::Hold(const Moment& since, const Moment& copy) {
  if (copy != nullptr) {
    CheckCuda(cudaStreamWaitEvent(kernels_, Recorded::Of(copy).event(), 0), "waiting for a copy");
  }
  Handle end = Record(kernels_);
  const std::lock_guard lock(mutex_);
  const int64_t newest = forgotten_ + static_cast<int64_t>(started_.size()) - 1;
  pauses_.push_back({std::static_pointer_cast<Recorded>(since), std::move(end),
                     copy == nullptr ? newest : Recorded::Of(copy).copy()});
}

CopyLane::Moment CudaCopyLane::Start(void* dst, const void* src, size_t bytes,
                                     const Moment& after) {
  CheckCuda(cudaSetDevice(device_), "device");  // of this thread
  if (after != nullptr) {
    CheckCuda(cudaStreamWaitEvent(copies_, Recorded::Of(after).event(), 0), "waiting for kernels");
  }
  Handle begin = Record(copies_);
  CheckCuda(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, copies_),
            "copy to the device");
  const std::lock_guard lock(mutex_);
  Handle end = Record(copies_, forgotten_ + static_cast<int64_t>(started_.size()));
  started_.push_back({std::move(begin), end});
  return end;
}

void CudaCopyLane::Await(const Moment& copy) {
  CheckCuda(cudaEventSynchronize(Recorded::Of(copy).event()), "waiting for a copy");
}

// Copies run one after the other: those before the first that ended too early do not count.
double CudaCopyLane::CopyingIn(const Pause& pause, double seconds) const {
  const auto in_pause = [&](const Handle& moment) {  // seconds since its begin, or its end
    if (!HasPassed(moment->event())) return seconds;
    return std::min(SecondsBetween(pause.begin->event(), moment->event()), seconds);
  };
  double copying = 0;
  for (int64_t i = pause.newest; i >= forgotten_; --i) {
    const Copy& copy = started_[static_cast<size_t>(i - forgotten_)];
    const double end = in_pause(copy.end);
    if (end <= 0) break;
    copying += end - std::max(in_pause(copy.begin), 0.0);
  }
  return copying;
}

CopyLane::Stall CudaCopyLane::TakeStall() {
  const std::lock_guard lock(mutex_);
  Stall stall;
  while (!pauses_.empty() && HasPassed(pauses_.front().end->event())) {
    const Pause& pause = pauses_.front();
    const double seconds = SecondsBetween(pause.begin->event(), pause.end->event());
    stall.seconds += seconds;
    stall.copying += CopyingIn(pause, seconds);
    pauses_.pop_front();
  }
  if (!pauses_.empty()) return stall;
  while (!started_.empty() && HasPassed(started_.front().end->event())) {
    started_.pop_front();
    ++forgotten_;
  }
  return stall;
}

}  // namespace pregate
