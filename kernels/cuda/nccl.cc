#include "kernels/cuda/nccl.h"

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <cassert>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/gpu_device.h"

namespace pregate {
namespace {

// As much of NCCL's interface (version 2) as is used here: it is loaded, not linked, and its header
// need not be there.
using NcclComm = struct ncclComm*;
constexpr int kNcclSuccess = 0, kNcclFloat32 = 7, kNcclSum = 0;
// 2.10, as NCCL writes it: the first whose calls may be recorded in graphs on all paths.
constexpr int kLeastVersion = 21000;

struct Library {
  int (*get_version)(int* version);
  const char* (*get_error_string)(int result);
  int (*comm_init_all)(NcclComm* comms, int count, const int* devices);
  int (*comm_destroy)(NcclComm comm);
  int (*all_reduce)(const void* from, void* to, size_t count, int type, int operation,
                    NcclComm comm, cudaStream_t stream);
  int (*send)(const void* from, size_t count, int type, int peer, NcclComm comm,
              cudaStream_t stream);
  int (*recv)(void* to, size_t count, int type, int peer, NcclComm comm, cudaStream_t stream);
  int (*group_start)();
  int (*group_end)();
};

absl::Status Unavailable(absl::string_view why) {
  return absl::UnavailableError(absl::StrCat("tensor-parallel-size: ", why));
}

absl::StatusOr<Library> LoadLibrary() {
  void* const handle = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const why = dlerror();
    return Unavailable(
        absl::StrCat("more than one GPU needs NCCL: ", why == nullptr ? "libnccl.so.2" : why));
  }
  Library library = {};
  std::string missing;
  const auto find = [&](const char* function, auto* target) {
    *target = reinterpret_cast<std::remove_pointer_t<decltype(target)>>(dlsym(handle, function));
    if (*target == nullptr && missing.empty()) missing = std::string(function);
  };
  find("ncclGetVersion", &library.get_version);
  find("ncclGetErrorString", &library.get_error_string);
  find("ncclCommInitAll", &library.comm_init_all);
  find("ncclCommDestroy", &library.comm_destroy);
  find("ncclAllReduce", &library.all_reduce);
  find("ncclSend", &library.send);
  find("ncclRecv", &library.recv);
  find("ncclGroupStart", &library.group_start);
  find("ncclGroupEnd", &library.group_end);
  if (!missing.empty()) {
    dlclose(handle);
    return Unavailable(absl::StrCat("NCCL (libnccl.so.2) lacks ", missing));
  }
  int version = 0;
  if (library.get_version(&version) != kNcclSuccess || version < kLeastVersion) {
    dlclose(handle);
    return Unavailable(
        absl::StrCat("NCCL must be of version ", kLeastVersion, " (2.10) or later; got ", version));
  }
  return library;
}

// The ranks' ends, which the library wants destroyed by one thread, one after the other.
struct Ends {
  ~Ends() {
    for (const NcclComm comm : comms) library.comm_destroy(comm);
  }
  void Check(int result, const char* what,
             std::source_location where = std::source_location::current()) const {
    if (result == kNcclSuccess) return;
    FailCuda(absl::StrCat("NCCL: ", library.get_error_string(result)).c_str(), what, where);
  }

  Library library;
  std::vector<NcclComm> comms;
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(int rank, std::shared_ptr<const Ends> ends)
      : Communicator(rank, static_cast<int>(ends->comms.size())),
        ends_(std::move(ends)),
        comm_(ends_->comms[static_cast<size_t>(rank)]) {}

  void AllReduceSum(Device& device, Tensor x) override {
    assert(x.dtype == DType::kF32 && x.stride == x.cols * static_cast<int64_t>(sizeof(float)));
    ends_->Check(ends_->library.all_reduce(x.data, x.data, Count(x), kNcclFloat32, kNcclSum, comm_,
                                           StreamOf(device)),
                 "sum over GPUs");
  }

  void GatherColumns(Device& device, Tensor x, absl::Span<const int64_t> begin) override {
    assert(x.dtype == DType::kF32 && begin.size() == static_cast<size_t>(size()) + 1);
    const Library& library = ends_->library;
    if (rank() > 0) {
      const int result = library.send(x.data, Count(x), kNcclFloat32, 0, comm_, StreamOf(device));
      return ends_->Check(result, "gathering from GPUs");
    }
    // Parts come as they are, one behind the other, and are put in their columns then.
    const int64_t others = x.rows * (begin.back() - begin[1]);
    auto* const received =
        static_cast<float*>(AsGpu(device).Scratch(static_cast<size_t>(others) * sizeof(float)));
    const auto part = [&](size_t r) { return received + x.rows * (begin[r] - begin[1]); };
    ends_->Check(library.group_start(), "gathering from GPUs");
    for (size_t r = 1; r + 1 < begin.size(); ++r) {
      const auto count = static_cast<size_t>(x.rows * (begin[r + 1] - begin[r]));
      ends_->Check(
          library.recv(part(r), count, kNcclFloat32, static_cast<int>(r), comm_, StreamOf(device)),
          "gathering from GPUs");
    }
    ends_->Check(library.group_end(), "gathering from GPUs");
    for (size_t r = 1; r + 1 < begin.size(); ++r) {
      const size_t width = static_cast<size_t>(begin[r + 1] - begin[r]) * sizeof(float);
      CheckCuda(cudaMemcpy2DAsync(x.Row<float>(0) + begin[r], static_cast<size_t>(x.stride),
                                  part(r), width, width, static_cast<size_t>(x.rows),
                                  cudaMemcpyDeviceToDevice, StreamOf(device)),
                "gathering from GPUs");
    }
  }

 private:
  static cudaStream_t StreamOf(Device& device) {
    return static_cast<cudaStream_t>(AsGpu(device).stream());
  }
  static size_t Count(const ConstTensor& x) { return static_cast<size_t>(x.rows * x.cols); }

  const std::shared_ptr<const Ends> ends_;
  const NcclComm comm_;
};

}  // namespace

absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeNcclCommunicators(int size) {
  absl::StatusOr<Library> library = LoadLibrary();
  if (!library.ok()) return library.status();
  std::vector<int> devices(static_cast<size_t>(size));
  std::iota(devices.begin(), devices.end(), 0);
  auto ends = std::make_shared<Ends>();
  ends->library = *library;
  std::vector<NcclComm> comms(devices.size());
  int current = 0;
  CheckCuda(cudaGetDevice(&current), "the thread's GPU");
  const int result = library->comm_init_all(comms.data(), size, devices.data());
  CheckCuda(cudaSetDevice(current), "the thread's GPU");
  if (result != kNcclSuccess) {
    return Unavailable(
        absl::StrCat("NCCL cannot connect ", size, " GPUs: ", library->get_error_string(result)));
  }
  ends->comms = std::move(comms);
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int r = 0; r < size; ++r) ranks.push_back(std::make_unique<NcclCommunicator>(r, ends));
  return ranks;
}

}  // namespace pregate
