// The GPU that the CUDA kernels run on: one device, one stream.
#ifndef PREGATE_KERNELS_CUDA_CUDA_DEVICE_H_
#define PREGATE_KERNELS_CUDA_CUDA_DEVICE_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/gpu_device.h"
#include "kernels/cuda/staging.h"

namespace pregate {

class CudaDevice : public GpuDevice {
 public:
  // Device number `index` of those that the driver shows (CUDA_VISIBLE_DEVICES chooses), with
  // `threads` of the host beside it (0: as MakeCpuDevice). It is the calling thread's from then on,
  // and only for that thread to use. UNAVAILABLE: there is none, or it is too old;
  // RESOURCE_EXHAUSTED: it has no room even for what every model needs.
  static absl::StatusOr<std::unique_ptr<CudaDevice>> Open(int threads, int index);
  ~CudaDevice() override;

  // "NVIDIA H200 (CUDA 13.0, sm_90, 140 GiB)".
  std::string_view name() const override { return name_; }
  bool host_memory() const override { return false; }
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override;
  absl::StatusOr<std::unique_ptr<CopyLane>> MakeCopyLane() override;
  void CopyToDevice(void* dst, const void* host_src, size_t bytes) override;
  void CopyToHost(void* host_dst, const void* src, size_t bytes) override;
  void Synchronize() override;
  // The first body of a key runs as it is, so that what is made on first use exists; the second is
  // recorded as a graph, which then stands for all others.
  void Replay(uint64_t key, absl::FunctionRef<void()> body) override;
  void ParallelFor(int64_t count, int64_t grain,
                   absl::FunctionRef<void(int64_t begin, int64_t end)> body) override {
    host_->ParallelFor(count, grain, body);
  }
  int num_threads() const override { return host_->num_threads(); }

  void* stream() override { return stream_; }
  void* Scratch(size_t bytes) override;
  const void* Resident(const void* host, size_t bytes) override;
  int multiprocessors() const override { return multiprocessors_; }
  size_t max_shared_bytes() const override { return max_shared_bytes_; }
  Blas* blas() override { return blas_.get(); }

 protected:
  void Free(void* data, size_t bytes) override;

 private:
  struct Graph {
    uint64_t key;
    cudaGraphExec_t exec;
  };

  explicit CudaDevice(int threads) : host_(MakeCpuDevice(threads)) {}
  // The body as a graph; null, with nothing issued, where it cannot be one.
  cudaGraphExec_t Record(absl::FunctionRef<void()> body);
  void Keep(uint64_t key, cudaGraphExec_t exec);

  const std::unique_ptr<Device> host_;
  std::string name_;
  int multiprocessors_ = 0;
  size_t max_shared_bytes_ = 0;
  cudaStream_t stream_ = nullptr;
  UploadRing uploads_;
  Download download_;

  DeviceBuffer scratch_;
  std::vector<DeviceBuffer> outgrown_;                        // scratch that a graph may hold
  absl::flat_hash_map<std::string, DeviceBuffer> residents_;  // by their bytes

  absl::flat_hash_set<uint64_t> seen_;        // keys whose body has run once, or more
  absl::flat_hash_set<uint64_t> unrecorded_;  // those that cannot be a graph
  std::list<Graph> graphs_;                   // the one used last comes first
  absl::flat_hash_map<uint64_t, std::list<Graph>::iterator> graph_of_;

  std::unique_ptr<Blas> blas_;  // null: the library is not there
};

// Products by cuBLASLt on the device's stream; null where the library cannot be loaded.
std::unique_ptr<Blas> MakeCudaBlas(CudaDevice* device);

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_CUDA_DEVICE_H_
