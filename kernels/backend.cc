#include "kernels/backend.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/module.h"

namespace pregate {
namespace {

constexpr char kModuleFile[] = "libpregate_cuda.so";

absl::Status Unavailable(absl::string_view why) {
  return absl::UnavailableError(absl::StrCat("device: ", why));
}

// Where the module is; empty: nowhere that is looked.
std::string FindModule() {
  if (const char* named = std::getenv("PREGATE_CUDA_MODULE"); named != nullptr && *named != '\0') {
    return named;
  }
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return "";
  const std::filesystem::path folder = program.parent_path();
  for (const auto& path : {folder / kModuleFile, folder / "../lib/pregate" / kModuleFile}) {
    if (std::filesystem::exists(path, error)) return path.string();
  }
  return "";
}

}  // namespace

absl::StatusOr<Backend> OpenCpu(int threads) {
  const absl::StatusOr<const Kernels*> kernels = CpuKernels();
  if (!kernels.ok()) return kernels.status();
  Backend backend;
  backend.device = MakeCpuDevice(threads);
  backend.kernels = *kernels;
  backend.description = std::string(backend.device->name());
  return backend;
}

absl::StatusOr<Backend> OpenCuda(int threads) { return OpenCuda(threads, 0); }

absl::StatusOr<Backend> OpenCuda(int threads, int index) {
  const std::string path = FindModule();
  if (path.empty()) {
    return Unavailable(absl::StrCat("no CUDA module (", kModuleFile, ") beside the program"));
  }
  // Never closed: the device's code is in it, and CUDA does not expect to be unloaded.
  void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const why = dlerror();
    return Unavailable(
        absl::StrCat("the CUDA module cannot be loaded: ", why == nullptr ? path : why));
  }
  const auto open = reinterpret_cast<OpenCudaModule>(dlsym(handle, kOpenCudaModule));
  if (open == nullptr) return Unavailable(absl::StrCat(path, " is not a CUDA module"));
  const auto version = reinterpret_cast<GetCudaModuleVersion>(dlsym(handle, kGetCudaModuleVersion));
  if (version == nullptr || version() != kCudaModuleVersion) {
    return Unavailable(absl::StrCat(path, " was built for another version of the program"));
  }
  CudaModule module;
  open(threads, index, &module);
  if (module.device == nullptr) return Unavailable(module.why_not);
  Backend backend;
  backend.device.reset(module.device);
  backend.kernels = module.kernels;
  backend.description = std::string(backend.device->name());
  backend.memory = module.memory;
  backend.num_devices = module.num_devices;
  backend.connect = module.connect;
  return backend;
}

absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> ConnectRanks(const Backend& backend,
                                                                        int size) {
  if (backend.device->host_memory()) {
    return MakeHostCommunicators(size, RanksMaySpin(*backend.device, size));
  }
  if (size > backend.num_devices) {
    return absl::FailedPreconditionError(
        absl::StrCat("tensor-parallel-size: must be at most the number of GPUs, ",
                     backend.num_devices, "; got ", size));
  }
  std::vector<Communicator*> made(static_cast<size_t>(size));
  char why_not[256] = {};
  if (!backend.connect(size, made.data(), why_not, sizeof(why_not))) {
    return absl::UnavailableError(why_not);
  }
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (Communicator* const rank : made) ranks.emplace_back(rank);
  return ranks;
}

bool RanksMaySpin(const Device& device, int size) {
  const int threads = device.host_memory() ? device.num_threads() : 1;
  return threads * size <= UsableCpus();
}

}  // namespace pregate
