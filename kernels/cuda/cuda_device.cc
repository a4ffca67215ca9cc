#include "kernels/cuda/cuda_device.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/cuda_copy_lane.h"

namespace pregate {
namespace {

// What the module is compiled for at least.
constexpr int kLeastMajor = 8;
constexpr size_t kMaxGraphs = 64;
// Keys that are remembered besides; more than that are not decoding steps of a few shapes.
constexpr size_t kMaxKeys = 4096;
constexpr size_t kLeastScratch = size_t{1} << 20;

// Of this thread, while it records a graph.
struct Recording {
  bool failed = false;
};
thread_local Recording* recording = nullptr;

// Errors that say that something cannot be part of a graph, of the recording alone.
bool IsOfRecording(cudaError_t error) {
  return error >= cudaErrorStreamCaptureUnsupported && error <= cudaErrorStreamCaptureWrongThread;
}

// Memory may be allocated while a graph is recorded: it does not become part of it.
class AllowAllocation {
 public:
  AllowAllocation() { Exchange(); }
  ~AllowAllocation() { Exchange(); }

 private:
  void Exchange() { CheckCuda(cudaThreadExchangeStreamCaptureMode(&mode_), "capture mode"); }
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

absl::Status CheckForDevice(int index) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > index) return absl::OkStatus();
  if (error == cudaSuccess && count > 0) {
    return absl::UnavailableError(absl::StrCat("no GPU number ", index, "; there are ", count));
  }
  static_cast<void>(cudaGetLastError());
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    return absl::UnavailableError("no NVIDIA driver");
  }
  if (error == cudaErrorInsufficientDriver) {
    return absl::UnavailableError(absl::StrCat("the NVIDIA driver must be for CUDA ",
                                               CUDART_VERSION / 1000, ".",
                                               CUDART_VERSION % 1000 / 10, " or later; it is for ",
                                               driver / 1000, ".", driver % 1000 / 10));
  }
  const std::string why = error == cudaSuccess ? "" : cudaGetErrorString(error);
  return absl::UnavailableError(absl::StrCat("no GPU", why.empty() ? "" : ": ", why));
}

std::string NameOf(const cudaDeviceProp& device) {
  return absl::StrCat(device.name, " (CUDA ", CUDART_VERSION / 1000, ".",
                      CUDART_VERSION % 1000 / 10, ", sm_", device.major, device.minor, ", ",
                      (device.totalGlobalMem + (size_t{1} << 29)) >> 30, " GiB");
}

}  // namespace

void FailCuda(const char* error, const char* what, std::source_location where) {
  std::fprintf(stderr, "pregate: the GPU has failed: %s: %s (%s:%u); leaving\n", what, error,
               where.file_name(), static_cast<unsigned>(where.line()));
  std::_Exit(kDeviceFailedExitStatus);  // destructors would ask the device again
}

namespace gpu_internal {

// gpu.h declares it to the files that nvcc compiles.
void CheckLaunch(cudaError_t error, const char* what) {
  if (recording != nullptr && IsOfRecording(error)) {
    recording->failed = true;
    return;
  }
  CheckCuda(error, what);
}

}  // namespace gpu_internal

absl::StatusOr<std::unique_ptr<CudaDevice>> CudaDevice::Open(int threads, int index) {
  if (absl::Status status = CheckForDevice(index); !status.ok()) return status;
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, index); error != cudaSuccess) {
    return absl::UnavailableError(absl::StrCat("no GPU: ", cudaGetErrorString(error)));
  }
  if (properties.major < kLeastMajor) {
    return absl::UnavailableError(
        absl::StrCat("the GPU (", properties.name, ") must have compute capability ", kLeastMajor,
                     ".0 or later; it has ", properties.major, ".", properties.minor));
  }
  if (const cudaError_t error = cudaSetDevice(index); error != cudaSuccess) {  // makes the context
    return absl::UnavailableError(
        absl::StrCat("the GPU cannot be used: ", cudaGetErrorString(error)));
  }
  std::unique_ptr<CudaDevice> device(new CudaDevice(threads));
  device->multiprocessors_ = properties.multiProcessorCount;
  device->max_shared_bytes_ = properties.sharedMemPerBlockOptin;
  CheckCuda(cudaStreamCreateWithFlags(&device->stream_, cudaStreamNonBlocking), "stream");
  absl::StatusOr<UploadRing> uploads = UploadRing::Create();
  if (!uploads.ok()) return uploads.status();
  device->uploads_ = *std::move(uploads);
  absl::StatusOr<Download> download = Download::Create();
  if (!download.ok()) return download.status();
  device->download_ = *std::move(download);
  device->blas_ = MakeCudaBlas(device.get());
  device->name_ = absl::StrCat(NameOf(properties), device->blas_ ? ")" : ", without cuBLAS)");
  return device;
}

CudaDevice::~CudaDevice() {
  if (stream_ == nullptr) return;
  Synchronize();
  for (const Graph& graph : graphs_) CheckCuda(cudaGraphExecDestroy(graph.exec), "graph");
  blas_.reset();
  scratch_ = DeviceBuffer();
  outgrown_.clear();
  residents_.clear();
  CheckCuda(cudaStreamDestroy(stream_), "stream");
}

absl::StatusOr<DeviceBuffer> CudaDevice::Allocate(size_t bytes) {
  const AllowAllocation allow;
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, std::max<size_t>(bytes, 1));
  if (error == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // this error does not stay
    size_t free = 0, total = 0;
    CheckCuda(cudaMemGetInfo(&free, &total), "free memory");
    return absl::ResourceExhaustedError(
        absl::StrCat("device: ", bytes, " bytes do not fit; ", free, " of ", total, " are free"));
  }
  CheckCuda(error, "allocation");
  return DeviceBuffer(this, data, bytes);
}

absl::StatusOr<std::unique_ptr<CopyLane>> CudaDevice::MakeCopyLane() {
  return std::make_unique<CudaCopyLane>(stream_);
}

void CudaDevice::Free(void* data, size_t) { CheckCuda(cudaFree(data), "freeing memory"); }

void CudaDevice::CopyToDevice(void* dst, const void* host_src, size_t bytes) {
  if (recording != nullptr) {  // a graph would copy whatever is in the ring when it runs
    recording->failed = true;
    return;
  }
  uploads_.Copy(dst, host_src, bytes, stream_);
}

void CudaDevice::CopyToHost(void* host_dst, const void* src, size_t bytes) {
  assert(recording == nullptr);
  download_.Copy(host_dst, src, bytes, stream_);
}

void CudaDevice::Synchronize() {
  assert(recording == nullptr);
  CheckCuda(cudaStreamSynchronize(stream_), "waiting for the device");
}

void* CudaDevice::Scratch(size_t bytes) {
  if (bytes <= scratch_.size()) return scratch_.data();
  absl::StatusOr<DeviceBuffer> grown = Allocate(std::bit_ceil(std::max(bytes, kLeastScratch)));
  if (!grown.ok()) grown = Allocate(bytes);
  if (!grown.ok()) {
    FailCuda(std::string(grown.status().message()).c_str(), "scratch",
             std::source_location::current());
  }
  if (scratch_.size() > 0 && (recording != nullptr || !graphs_.empty())) {
    outgrown_.push_back(std::move(scratch_));
    scratch_ = DeviceBuffer();
  } else if (recording == nullptr) {
    Synchronize();  // kernels that were issued may still use it
    outgrown_.clear();
  }
  scratch_ = *std::move(grown);
  return scratch_.data();
}

const void* CudaDevice::Resident(const void* host, size_t bytes) {
  if (bytes == 0) return nullptr;
  const absl::string_view content(static_cast<const char*>(host), bytes);
  if (const auto found = residents_.find(content); found != residents_.end()) {
    return found->second.data();
  }
  if (recording != nullptr) {  // to be copied, which cannot be part of a graph
    recording->failed = true;
    return Scratch(bytes);  // for kernels that will never run
  }
  absl::StatusOr<DeviceBuffer> copy = Allocate(bytes);
  if (!copy.ok()) {
    FailCuda(std::string(copy.status().message()).c_str(), "a list of the model",
             std::source_location::current());
  }
  CopyToDevice(copy->data(), host, bytes);
  const void* const data = copy->data();
  residents_.emplace(std::string(content), *std::move(copy));
  return data;
}

void CudaDevice::Replay(uint64_t key, absl::FunctionRef<void()> body) {
  assert(recording == nullptr);
  if (key == 0 || unrecorded_.contains(key)) return body();
  if (const auto found = graph_of_.find(key); found != graph_of_.end()) {
    graphs_.splice(graphs_.begin(), graphs_, found->second);
    return CheckCuda(cudaGraphLaunch(graphs_.front().exec, stream_), "graph");
  }
  if (!seen_.contains(key)) {
    if (seen_.size() >= kMaxKeys) seen_.clear();
    seen_.insert(key);
    return body();
  }
  cudaGraphExec_t exec = Record(body);
  if (exec == nullptr) {
    if (unrecorded_.size() >= kMaxKeys) unrecorded_.clear();
    unrecorded_.insert(key);
    return body();
  }
  Keep(key, exec);
  CheckCuda(cudaGraphLaunch(exec, stream_), "graph");
}

cudaGraphExec_t CudaDevice::Record(absl::FunctionRef<void()> body) {
  Recording state;
  CheckCuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
  recording = &state;
  body();
  recording = nullptr;
  cudaGraph_t graph = nullptr;
  const cudaError_t error = cudaStreamEndCapture(stream_, &graph);
  if (error != cudaSuccess && !IsOfRecording(error)) CheckCuda(error, "capture");
  static_cast<void>(cudaGetLastError());  // of the recording alone
  cudaGraphExec_t exec = nullptr;
  if (error == cudaSuccess && graph != nullptr && !state.failed &&
      cudaGraphInstantiate(&exec, graph, 0) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    exec = nullptr;
  }
  if (graph != nullptr) CheckCuda(cudaGraphDestroy(graph), "graph");
  return exec;
}

void CudaDevice::Keep(uint64_t key, cudaGraphExec_t exec) {
  if (graphs_.size() >= kMaxGraphs) {
    graph_of_.erase(graphs_.back().key);
    CheckCuda(cudaGraphExecDestroy(graphs_.back().exec), "graph");  // once it has run
    graphs_.pop_back();
  }
  graphs_.push_front({key, exec});
  graph_of_[key] = graphs_.begin();
}

}  // namespace pregate
