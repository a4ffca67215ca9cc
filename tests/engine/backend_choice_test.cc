// Which device serves a model: with a GPU that is not one, and without any.
#include "engine/backend_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/engine_setup.h"
#include "engine/model/read_me_overlay.h"
#include "tests/engine/read_me_overlay.h"
#include "tests/model/random_model.h"
#include "tests/model/read_me_folder.h"
#include "tests/model/tiny_case.h"

namespace pregate {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int64_t kGigabyte = 1000000000;

// What the GPU of FakeGpu is.
Kernels fake_kernels;
int64_t fake_free = 0;
int opened = 0;

// The CPU, as a device whose memory the host cannot read.
class FarDevice : public Device {
 public:
  explicit FarDevice(int threads) : host_(MakeCpuDevice(threads)) {}
  std::string_view name() const override { return "far"; }
  bool host_memory() const override { return false; }
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override { return host_->Allocate(bytes); }
  void CopyToDevice(void* dst, const void* host_src, size_t bytes) override {
    host_->CopyToDevice(dst, host_src, bytes);
  }
  void CopyToHost(void* host_dst, const void* src, size_t bytes) override {
    host_->CopyToHost(host_dst, src, bytes);
  }
  void Synchronize() override {}
  void ParallelFor(int64_t count, int64_t grain,
                   absl::FunctionRef<void(int64_t, int64_t)> body) override {
    host_->ParallelFor(count, grain, body);
  }
  int num_threads() const override { return host_->num_threads(); }

 protected:
  void Free(void*, size_t) override {}  // buffers are host_'s

 private:
  const std::unique_ptr<Device> host_;
};

absl::StatusOr<Backend> FakeGpu(int threads) {
  ++opened;
  Backend backend;
  backend.device = std::make_unique<FarDevice>(threads);
  backend.kernels = &fake_kernels;
  backend.description = std::string("a GPU");
  backend.memory = [](int64_t* free, int64_t* total) {
    *free = fake_free;
    *total = 100 * kGigabyte;
  };
  return backend;
}
absl::StatusOr<Backend> NoGpu(int) {
  ++opened;
  return absl::UnavailableError("device: no GPU");
}

class BackendChoiceTest : public testing::Test {
 protected:
  void SetUp() override {
    fake_kernels = **CpuKernels();
    fake_kernels.name = "fake";
    fake_free = 50 * kGigabyte;
    opened = 0;
    options_.threads = 1;
  }
  absl::StatusOr<ChosenBackend> Choose(const std::string& device,
                                       absl::StatusOr<Backend> (*open)(int) = FakeGpu) {
    options_.device = device;
    return ChooseBackend(*file_, options_, open);
  }
  // `auto` takes the CPU and says `why`; `cuda` is refused with it.
  void ExpectCpu(absl::StatusCode code, const std::string& why,
                 absl::StatusOr<Backend> (*open)(int) = FakeGpu) {
    const absl::StatusOr<ChosenBackend> cuda = Choose("cuda", open);
    EXPECT_EQ(cuda.status().code(), code);
    EXPECT_EQ(cuda.status().message(), "device: " + why);
    const absl::StatusOr<ChosenBackend> any = Choose("auto", open);
    ASSERT_TRUE(any.ok()) << any.status();
    EXPECT_THAT(any->backend.description, StartsWith("cpu ("));
    EXPECT_EQ(any->why, "CPU: " + why);
  }

  std::unique_ptr<ModelFile> file_ = MakeRandomModel(RandomModelSpec());
  EngineOptions options_;
};

TEST_F(BackendChoiceTest, CpuAsksForNoGpu) {
  const absl::StatusOr<ChosenBackend> chosen = Choose("cpu");
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->backend.kernels, *CpuKernels());
  EXPECT_EQ(chosen->backend.device->num_threads(), 1);
  EXPECT_EQ(chosen->why, "");
  EXPECT_EQ(opened, 0);
}

TEST_F(BackendChoiceTest, TakesAGpuWithRoom) {
  const absl::StatusOr<ChosenBackend> named = Choose("cuda"), any = Choose("auto");
  ASSERT_TRUE(named.ok() && any.ok()) << named.status() << any.status();
  EXPECT_EQ(named->backend.description, "a GPU");
  EXPECT_EQ(named->why, "");
  EXPECT_EQ(any->backend.description, "a GPU");
  EXPECT_THAT(any->why, AllOf(StartsWith("GPU: the model needs 1.1 GB"), HasSubstr("50.0 GB")));
}

TEST_F(BackendChoiceTest, SaysWhyThereIsNone) {
  ExpectCpu(absl::StatusCode::kUnavailable, "no GPU", NoGpu);
  EXPECT_EQ(opened, 2);
}

TEST_F(BackendChoiceTest, CountsWeightsActivationsAndCache) {
  fake_free = kGigabyte;
  ExpectCpu(absl::StatusCode::kResourceExhausted,
            "the model needs 1.1 GB (weights 0.0 GB); the GPU has 1.0 GB of 100.0 GB free");
  fake_free = 2 * kGigabyte;
  EXPECT_TRUE(Choose("cuda").ok());
  options_.kv_cache_memory = kGigabyte;
  ExpectCpu(absl::StatusCode::kResourceExhausted,
            "the model needs 2.1 GB (weights 0.0 GB); the GPU has 2.0 GB of 100.0 GB free");
  options_.kv_cache_memory = 0;
  options_.max_num_batched_tokens = 65536;  // each 2112 floats of activations
  EXPECT_EQ(Choose("cuda").status().message(), "");
  options_.max_num_batched_tokens = 512;
  // Each of 16 matrices.
  fake_kernels.packed_bytes = [](DType, int64_t, int64_t) { return kGigabyte; };
  EXPECT_THAT(std::string(Choose("cuda").status().message()), HasSubstr("(weights 16.0 GB)"));
}

TEST_F(BackendChoiceTest, RefusesATableThatLacksSomething) {
  fake_kernels.attention = nullptr;
  ExpectCpu(absl::StatusCode::kUnimplemented, "the fake kernels lack attention");
  fake_kernels = **CpuKernels();
  fake_kernels.name = "fake";
  fake_kernels.top_k_gate = nullptr;
  EXPECT_TRUE(Choose("cuda").ok());
  RandomModelSpec mixture;
  mixture.num_experts = 4;
  file_ = MakeRandomModel(mixture);
  ExpectCpu(absl::StatusCode::kUnimplemented, "the fake kernels lack top_k_gate");
  // Tables of the host have no entry for what the host does itself.
  fake_kernels = **CpuKernels();
  fake_kernels.name = "fake";
  ExpectCpu(absl::StatusCode::kUnimplemented, "the fake kernels lack sort_by_expert");
  fake_kernels.sort_by_expert = [](Device&, const int32_t*, int64_t, int32_t, int32_t,
                                   const ExpertOrder&) {};
  ExpectCpu(absl::StatusCode::kUnimplemented, "the fake kernels lack grouped_matmul");
  fake_kernels.grouped_matmul = [](Device&, absl::Span<const GroupedProduct>) {};
  EXPECT_TRUE(Choose("cuda").ok());
}

TEST_F(BackendChoiceTest, RefusesAWeightThatTheTableCannotMultiply) {
  fake_kernels.packed_bytes = [](DType, int64_t, int64_t) { return int64_t{0}; };
  ExpectCpu(absl::StatusCode::kUnimplemented,
            "the fake kernels have none for F32, the type of " + file_->tensors()[0].name);
}

// Of a Read-ME model's experts as many must have room as shall.
TEST_F(BackendChoiceTest, CountsExpertsThatComeAndGoAsTheirMemory) {
  const RandomModelSpec spec;
  ReadMeFolder folder("backend_choice");
  WriteReadMe(spec, folder);
  file_ = *LayReadMeOver(MakeRandomModel(spec), folder.Write());
  // Each of six matrices of the FFN, and of others as well.
  fake_kernels.packed_bytes = [](DType, int64_t rows, int64_t cols) {
    return rows == 128 || cols == 128 ? kGigabyte : 1;
  };
  fake_free = 9 * kGigabyte;
  const absl::StatusOr<ChosenBackend> all = Choose("cuda");
  EXPECT_EQ(all.status().code(), absl::StatusCode::kResourceExhausted);
  options_.expert_cache_memory = 2 * kGigabyte;
  const absl::StatusOr<ChosenBackend> some = Choose("auto");
  ASSERT_TRUE(some.ok()) << some.status();
  EXPECT_EQ(some->backend.description, "a GPU");
}

TEST_F(BackendChoiceTest, EncodersAreForTheCpu) {
  const auto root = nlohmann::json::parse(std::ifstream("tests/testdata/parity/encoders.json"));
  const TinyModel encoder(root["cases"][0], TinyModel::Format::kSafetensors);
  file_ = *ModelFile::Open(encoder.path());
  ExpectCpu(absl::StatusCode::kUnimplemented, "encoders run on the CPU alone");
  options_.tensor_parallel_size = 2;
  EXPECT_EQ(Choose("cpu").status(),
            absl::UnimplementedError("tensor-parallel-size: encoders run on one device"));
  EXPECT_EQ(opened, 0);
}

// As many GPUs as ranks, and something that connects them.
TEST_F(BackendChoiceTest, RanksNeedGpus) {
  options_.tensor_parallel_size = 2;
  options_.threads = 4;
  const std::string few = "tensor-parallel-size: must be at most the number of GPUs, 1; got 2";
  EXPECT_EQ(Choose("cuda").status(), absl::FailedPreconditionError(few));
  const absl::StatusOr<ChosenBackend> any = Choose("auto");
  ASSERT_TRUE(any.ok()) << any.status();
  EXPECT_EQ(any->why, "CPU: " + few);
  EXPECT_EQ(any->ends.size(), 2u);
  EXPECT_EQ(any->backend.device->num_threads(), 2);
  EXPECT_THAT(any->backend.description, StartsWith("2 ranks, each cpu ("));

  const auto two_gpus = [](int threads) {
    absl::StatusOr<Backend> backend = FakeGpu(threads);
    backend->num_devices = 2;
    backend->connect = [](int size, Communicator** ranks, char* why_not, size_t bytes) {
      if (fake_free < 10 * kGigabyte) {
        absl::string_view("no NCCL").copy(why_not, bytes - 1);
        return false;
      }
      for (auto& rank : MakeHostCommunicators(size, false)) *ranks++ = rank.release();
      return true;
    };
    return backend;
  };
  const absl::StatusOr<ChosenBackend> cuda = Choose("cuda", two_gpus);
  ASSERT_TRUE(cuda.ok()) << cuda.status();
  EXPECT_EQ(cuda->backend.description, "2 ranks, each a GPU");
  ASSERT_EQ(cuda->ends.size(), 2u);
  EXPECT_EQ(cuda->ends[1]->rank(), 1);
  fake_free = 9 * kGigabyte;
  EXPECT_EQ(Choose("cuda", two_gpus).status(), absl::UnavailableError("no NCCL"));
  EXPECT_EQ(Choose("auto", two_gpus)->why, "CPU: no NCCL");
}

TEST_F(BackendChoiceTest, KvCacheMemoryIsOfTheDevice) {
  EXPECT_EQ(DefaultKvCacheMemory(*OpenCpu(1)), UsableMemory() / 4);
  EXPECT_EQ(DefaultKvCacheMemory(*OpenCpu(1), 4), UsableMemory() / 16);
  EXPECT_EQ(DefaultKvCacheMemory(*FakeGpu(1)), 45 * kGigabyte);
}

// Of the engine as a whole, beside which there is no module.
TEST_F(BackendChoiceTest, TheEngineServesOnTheCpuAndSaysWhy) {
  unsetenv("PREGATE_CUDA_MODULE");
  const auto any = SetUpEngine(std::move(file_), options_, nullptr);
  ASSERT_TRUE(any.ok()) << any.status();
  EXPECT_EQ(any->info.device, "cpu (" + std::string((*CpuKernels())->name) + ", 1 thread)");
  EXPECT_EQ(any->info.device_choice, "CPU: no CUDA module (libpregate_cuda.so) beside the program");
  options_.device = std::string("cuda");
  const auto cuda = SetUpEngine(MakeRandomModel(RandomModelSpec()), options_, nullptr);
  EXPECT_EQ(cuda.status().code(), absl::StatusCode::kUnavailable);
  options_.device = std::string("tpu");
  const auto unknown = SetUpEngine(MakeRandomModel(RandomModelSpec()), options_, nullptr);
  EXPECT_EQ(unknown.status().message(), "device: must be auto, cpu or cuda; got tpu");
}

}  // namespace
}  // namespace pregate
