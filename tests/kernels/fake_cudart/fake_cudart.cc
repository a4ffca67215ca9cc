// A CUDA runtime without a GPU: streams are lists of what is still to be done, which is done when
// somebody waits for it and not before; memory is the host's, counted. What CUDA refuses is
// refused: waiting and allocating while a graph is recorded.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "tests/kernels/cuda_device_under_test.h"

using Operation = std::function<void()>;

struct FakeStream {
  std::vector<Operation> issued;
  size_t done = 0;
  std::unique_ptr<std::vector<Operation>> recorded;  // while a graph is

  void Issue(Operation operation) {
    (recorded == nullptr ? issued : *recorded).push_back(std::move(operation));
  }
  // An operation may have other streams run, and be asked for itself meanwhile: then two wait for
  // each other.
  void RunTo(size_t end) {
    while (done < end) {
      if (running) std::abort();
      running = true;
      const Operation next = issued[done];  // it may issue more
      next();
      running = false;
      ++done;
      ++operations_done;
    }
  }
  bool running = false;
  static inline int64_t operations_done = 0;
};
// What an event was recorded for. Its time is the number of operations that had been done by then.
struct FakeRecord {
  FakeStream* stream;
  size_t end;
  int64_t time = -1;
};
struct FakeEvent {
  std::shared_ptr<FakeRecord> record;  // null: it has never been recorded
};
struct FakeGraph {
  std::vector<Operation> operations;
};
struct FakeGraphExec {
  std::vector<Operation> operations;
};

namespace {

constexpr size_t kTotalBytes = size_t{1} << 30;
constexpr int kDevices = 3;

thread_local int current_device = 0;

// Of the one stream that may be recording.
FakeStream* recording = nullptr;
cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
std::map<void*, size_t> allocated;
size_t allocated_bytes = 0;
std::vector<FakeStream*> streams;
std::vector<std::unique_ptr<FakeStream>> gone;  // others may still wait for what was issued in them

// What is wrong in every case, and would be no error that a test sees.
void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "fake_cudart: %s\n", what);
  std::abort();
}

cudaError_t WaitFor(FakeStream* stream, size_t end) {
  Require(stream->recorded == nullptr, "waits while a graph is recorded");
  stream->RunTo(end);
  return cudaSuccess;
}

}  // namespace

const char* cudaGetErrorString(cudaError_t) { return "an error"; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = kDevices;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {"Fake", kTotalBytes, 9, 0, 4, 200 << 10};
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  Require(device >= 0 && device < kDevices, "there is no such device");
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  Require(recording == nullptr || mode == cudaStreamCaptureModeRelaxed,
          "allocates while a graph is recorded");
  if (bytes > kTotalBytes - allocated_bytes) return cudaErrorMemoryAllocation;
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(*data, 0xFF, bytes);
  allocated[*data] = bytes;
  allocated_bytes += bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  for (FakeStream* stream : streams) WaitFor(stream, stream->issued.size());  // as CUDA does
  const auto found = allocated.find(data);
  Require(found != allocated.end(), "frees what it has not given");
  allocated_bytes -= found->second;
  allocated.erase(found);
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  *data = std::malloc(bytes);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* data) {
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = kTotalBytes;
  *free = kTotalBytes - allocated_bytes;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  Require(stream->recorded == nullptr, "copies from memory that changes, in a graph");
  stream->Issue([=] { std::memcpy(dst, src, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* dst, size_t dst_pitch, const void* src, size_t src_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  Require(kind == cudaMemcpyDeviceToDevice, "copies from memory that changes, perhaps in a graph");
  stream->Issue([=] {
    for (size_t row = 0; row < height; ++row) {
      std::memcpy(static_cast<char*>(dst) + row * dst_pitch,
                  static_cast<const char*>(src) + row * src_pitch, width);
    }
  });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new FakeStream;
  streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::erase(streams, stream);
  gone.emplace_back(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return WaitFor(stream, stream->issued.size());
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new FakeEvent;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  auto record = std::make_shared<FakeRecord>(FakeRecord{stream, stream->issued.size() + 1});
  event->record = record;
  stream->Issue([record] { record->time = FakeStream::operations_done; });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return event->record == nullptr ? cudaSuccess
                                  : WaitFor(event->record->stream, event->record->end);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  // What the event stands for now: it may be recorded again before the stream gets here.
  stream->Issue([record = event->record] {
    if (record != nullptr) WaitFor(record->stream, record->end);
  });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return event->record == nullptr || event->record->time >= 0 ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  if (cudaEventQuery(from) != cudaSuccess || cudaEventQuery(to) != cudaSuccess) {
    return cudaErrorNotReady;
  }
  *milliseconds = static_cast<float>(to->record->time - from->record->time);
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* other) {
  std::swap(mode, *other);
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  Require(recording == nullptr, "records two graphs at once");
  recording = stream;
  stream->recorded = std::make_unique<std::vector<Operation>>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Require(recording == stream, "ends a recording that is none");
  recording = nullptr;
  *graph = new FakeGraph{std::move(*stream->recorded)};
  stream->recorded = nullptr;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new FakeGraphExec{graph->operations};
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  for (const Operation& operation : exec->operations) stream->Issue(operation);
  return cudaSuccess;
}

void FakeCudartIssue(cudaStream_t stream, void (*body)(void*), void* argument) {
  stream->Issue([=] { body(argument); });
}
void FakeCudartRunUntil(cudaStream_t stream, bool (*done)(void*), void* argument) {
  while (!done(argument)) {
    Require(stream->done < stream->issued.size(), "waits for what nobody has issued");
    stream->RunTo(stream->done + 1);
  }
}

namespace pregate {

std::unique_ptr<Blas> MakeCudaBlas(CudaDevice*) { return nullptr; }

absl::StatusOr<std::unique_ptr<Device>> OpenDeviceUnderTest() { return CudaDevice::Open(1, 0); }

bool RunsLate() { return true; }

void IssueAdd(Device& device, const float* a, const float* b, float* out, int64_t count) {
  static_cast<cudaStream_t>(AsGpu(device).stream())->Issue([=] {
    for (int64_t i = 0; i < count; ++i) out[i] = a[i] + b[i];
  });
}

}  // namespace pregate
