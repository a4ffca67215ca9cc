// Opening backends: the CPU always, a GPU or the reason why there is none.
#include "kernels/backend.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

// Of no real module.
#define PREGATE_CUDA_MODULE_VERSION 1
#include "kernels/cuda/module.h"

namespace pregate {
namespace {

using testing::AnyOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

// The module named in the environment while it lives; null: none is.
class NamedModule {
 public:
  explicit NamedModule(const char* path) {
    if (const char* was = std::getenv(kName)) was_ = std::make_unique<std::string>(was);
    path == nullptr ? unsetenv(kName) : setenv(kName, path, 1);
  }
  ~NamedModule() { was_ == nullptr ? unsetenv(kName) : setenv(kName, was_->c_str(), 1); }

 private:
  static constexpr char kName[] = "PREGATE_CUDA_MODULE";
  std::unique_ptr<std::string> was_;
};

std::string WhyNot(const char* module) {
  const NamedModule named(module);
  const absl::StatusOr<Backend> backend = OpenCuda(1);
  EXPECT_EQ(backend.status().code(), absl::StatusCode::kUnavailable);
  return std::string(backend.status().message());
}

TEST(OpenCpuTest, IsTheHost) {
  const absl::StatusOr<Backend> backend = OpenCpu(2);
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_EQ(backend->kernels, *CpuKernels());
  EXPECT_TRUE(backend->device->host_memory());
  EXPECT_EQ(backend->memory, nullptr);
  EXPECT_EQ(backend->description, "cpu (" + std::string(backend->kernels->name) + ", 2 threads)");
}

TEST(OpenCudaTest, SaysThatThereIsNoModule) {
  EXPECT_EQ(WhyNot(nullptr), "device: no CUDA module (libpregate_cuda.so) beside the program");
  EXPECT_EQ(WhyNot(""), "device: no CUDA module (libpregate_cuda.so) beside the program");
  EXPECT_THAT(WhyNot("/nowhere/module.so"),
              AllOf(StartsWith("device: the CUDA module cannot be loaded: "),
                    HasSubstr("/nowhere/module.so")));
}

TEST(OpenCudaTest, RefusesWhatIsNoModuleOrOfAnotherVersion) {
  EXPECT_EQ(WhyNot("libm.so.6"), "device: libm.so.6 is not a CUDA module");
  EXPECT_EQ(WhyNot(FAKE_CUDA_MODULE),
            "device: " FAKE_CUDA_MODULE " was built for another version of the program");
  EXPECT_EQ(WhyNot(OLD_CUDA_MODULE),
            "device: " OLD_CUDA_MODULE " was built for another version of the program");
}

#ifdef REAL_CUDA_MODULE

TEST(OpenCudaTest, OpensTheGpuOrSaysWhyNot) {
  const NamedModule named(REAL_CUDA_MODULE);
  const absl::StatusOr<Backend> backend = OpenCuda(2);
  if (!backend.ok()) {
    EXPECT_EQ(backend.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(
        std::string(backend.status().message()),
        AnyOf(testing::Eq("device: no NVIDIA driver"), StartsWith("device: no GPU"),
              StartsWith("device: the NVIDIA driver must be"), StartsWith("device: the GPU ")));
    return;
  }
  EXPECT_THAT(backend->description, AllOf(HasSubstr("sm_"), EndsWith(")")));
  EXPECT_EQ(std::string(backend->kernels->name), "cuda");
  EXPECT_FALSE(backend->device->host_memory());
  EXPECT_EQ(backend->device->num_threads(), 2);
  int64_t free = 0, total = 0;
  backend->memory(&free, &total);
  EXPECT_GT(free, 0);
  EXPECT_GT(total, free);
}

TEST(OpenCudaTest, TheModuleSaysOfWhichVersionItIs) {
  void* const handle = dlopen(REAL_CUDA_MODULE, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(handle, nullptr) << dlerror();
  const auto version = reinterpret_cast<GetCudaModuleVersion>(dlsym(handle, kGetCudaModuleVersion));
  ASSERT_NE(version, nullptr);
  EXPECT_NE(version(), 0u);
  EXPECT_NE(version(), kCudaModuleVersion);
  EXPECT_NE(dlsym(handle, kOpenCudaModule), nullptr);
}

// Nothing of the module can stand in for anything of the program, or of a library beside it.
TEST(OpenCudaTest, TheModuleShowsItsOwnFunctionsOnly) {
  void* const handle = dlopen(REAL_CUDA_MODULE, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(handle, nullptr) << dlerror();
  EXPECT_NE(dlsym(handle, kCudaReachableMemory), nullptr);
  for (const char* hidden : {"_ZN7pregate11CudaKernelsEv", "_ZN7pregate16ReferenceKernelsEv",
                             "_ZN7pregate13MakeCpuDeviceEi", "cudaMalloc"}) {
    EXPECT_EQ(dlsym(handle, hidden), nullptr) << hidden;
  }
}

#else

TEST(OpenCudaTest, OpensTheGpuOrSaysWhyNot) {
  GTEST_SKIP() << "this build has no CUDA module (PREGATE_CUDA)";
}

#endif

}  // namespace
}  // namespace pregate
