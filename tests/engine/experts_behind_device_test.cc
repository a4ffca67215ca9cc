// An engine whose experts lie behind a device's memory, or tiles of them on a disk: cancellations
// and a disk that fails touch those answers alone, and what is counted is what was done.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/engine_setup.h"
#include "engine/model/read_me_overlay.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/read_me_overlay.h"
#include "tests/model/random_model.h"
#include "tests/model/read_me_folder.h"

namespace pregate {
namespace {

// A slot holds the largest piece, 96 neurons wide; an expert has two.
constexpr int64_t kSlot = 3 * 64 * 96 * sizeof(float), kExpert = 2 * kSlot, kPassing = 3 * kSlot;

class ExpertsBehindDevice : public testing::Test {
 protected:
  static void SetUpTestSuite() { setenv("PREGATE_CUDA_MODULE", DISTANT_MODULE, 1); }

  std::unique_ptr<Engine> MakeWith(int64_t device_bytes, int64_t host_bytes) {
    const RandomModelSpec spec;
    ReadMeFolder folder("experts_behind_device");
    WriteReadMe(spec, folder);
    auto file = LayReadMeOver(MakeRandomModel(spec), folder.Write());
    EXPECT_TRUE(file.ok()) << file.status();
    EngineOptions options;
    options.device = device_;
    options.expert_storage = storage_;
    options.max_num_batched_tokens = 64;
    options.max_num_seqs = 16;
    options.max_model_len = 256;
    options.enable_prefix_caching = false;
    options.expert_cache_memory = device_bytes;
    options.expert_host_memory = host_bytes;
    options.expert_cache_dir = testing::TempDir();
    absl::StatusOr<EngineSetup> setup = SetUpEngine(*std::move(file), options, nullptr);
    EXPECT_TRUE(setup.ok()) << setup.status();
    return MakeEngine(*std::move(setup));
  }

  static std::vector<int32_t> Prompt(int number) {
    std::vector<int32_t> ids;
    for (int i = 0; i < 40; ++i) ids.push_back((number * 37 + i * i * 11) % 320);
    return ids;
  }

  // Of prompts 0 to 11.
  std::vector<std::vector<int32_t>> AskAlone() {
    std::vector<std::vector<int32_t>> alone;
    const auto all = MakeWith(0, 0);
    for (int i = 0; i < 12; ++i) alone.push_back(Ask(*all, GreedyRequest(Prompt(i), 24))[0].tokens);
    EXPECT_TRUE(all->stats().experts.all_resident);
    return alone;
  }
  void CancelSome(Engine& engine, const std::vector<std::vector<int32_t>>& alone);
  void LoseTheFile(Engine& engine);

  std::string device_ = "cuda", storage_ = "copies";
};

class TiledExperts : public ExpertsBehindDevice {
 protected:
  // One expert fits, and a bit more.
  static constexpr int64_t kMemory = 160000;
  TiledExperts() {
    device_ = "cpu";
    storage_ = "tied";
  }
};

// The nameless file of this process.
class ExpertFile {
 public:
  ExpertFile() {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
      if (gone || !absl::StrContains(target, "(deleted)")) continue;
      const int fd = open(entry.path().c_str(), O_RDWR | O_CLOEXEC);
      struct stat about;
      if (fd >= 0 && fstat(fd, &about) == 0 && about.st_size > 0) {
        fd_ = fd;
        content_.resize(static_cast<size_t>(about.st_size));
        EXPECT_EQ(pread(fd_, content_.data(), content_.size(), 0), about.st_size);
        return;
      }
      if (fd >= 0) close(fd);
    }
  }
  ~ExpertFile() {
    if (fd_ >= 0) close(fd_);
  }
  bool found() const { return fd_ >= 0; }
  void Lose() { EXPECT_EQ(ftruncate(fd_, 0), 0); }
  void Restore() {
    EXPECT_EQ(pwrite(fd_, content_.data(), content_.size(), 0),
              static_cast<ssize_t>(content_.size()));
  }

 private:
  int fd_ = -1;
  std::string content_;
};

void ExpertsBehindDevice::CancelSome(Engine& engine,
                                     const std::vector<std::vector<int32_t>>& alone) {
  std::deque<Collector> collectors;
  for (int i = 0; i < 12; ++i) {
    Collector& collector = collectors.emplace_back(1);
    const auto id = engine.Submit(GreedyRequest(Prompt(i), 24), collector.Callback());
    ASSERT_TRUE(id.ok()) << id.status();
    if (i % 3 == 1) engine.Cancel(*id);  // perhaps before its first step
    if (i % 3 == 2) {
      collector.WaitForTokens(2);
      engine.Cancel(*id);
    }
  }
  for (int i = 0; i < 12; ++i) {
    ASSERT_TRUE(collectors[static_cast<size_t>(i)].Wait());
    const Answer answer = collectors[static_cast<size_t>(i)].answers()[0];
    const std::vector<int32_t>& want = alone[static_cast<size_t>(i)];
    if (i % 3 == 0) {
      EXPECT_EQ(answer.tokens.size(), 24u);
    }
    ASSERT_LE(answer.tokens.size(), want.size());
    EXPECT_TRUE(std::equal(answer.tokens.begin(), answer.tokens.end(), want.begin())) << i;
  }
  EXPECT_TRUE(engine.WaitUntilIdle(absl::Seconds(10)));
}

TEST_F(ExpertsBehindDevice, CancelledAnswersLeaveTheOthersAsTheyAre) {
  const std::vector<std::vector<int32_t>> alone = AskAlone();
  for (const int64_t host : {int64_t{0}, kPassing + kExpert}) {
    const auto engine = MakeWith(2 * kExpert, host);
    double stall = 0;
    engine->SetStepObserver([&](const StepStats& step) {
      EXPECT_GE(step.expert_stall, step.expert_stall_copying);
      stall += absl::ToDoubleSeconds(step.expert_stall);
    });
    CancelSome(*engine, alone);
    const EngineStats stats = engine->stats();
    EXPECT_FALSE(stats.experts.all_resident);
    EXPECT_GT(stats.experts.loads[0], 2);
    EXPECT_EQ(stats.experts.load_bytes[0], stats.experts.loads[0] * kExpert);
    EXPECT_GT(stall, 0);
  }
}

TEST_F(TiledExperts, CancelledAnswersLeaveTheOthersAsTheyAre) {
  const std::vector<std::vector<int32_t>> alone = AskAlone();
  const auto engine = MakeWith(kMemory, 0);
  CancelSome(*engine, alone);
  const EngineStats stats = engine->stats();
  EXPECT_FALSE(stats.experts.all_resident);
  EXPECT_GT(stats.experts.loads[0], 2);
  EXPECT_GT(stats.experts.hits, 0);
}

void ExpertsBehindDevice::LoseTheFile(Engine& engine) {
  ExpertFile file;
  ASSERT_TRUE(file.found());
  std::vector<std::vector<int32_t>> before;
  for (int i = 0; i < 4; ++i) {
    before.push_back(Ask(engine, GreedyRequest(Prompt(i), 8))[0].tokens);
    EXPECT_EQ(before.back().size(), 8u);
  }
  file.Lose();
  int failed = 0;
  for (int i = 0; i < 4; ++i) {  // prompts that need all experts, of which some are there
    const Answer answer = Ask(engine, GreedyRequest(Prompt(i), 8))[0];
    EXPECT_EQ(answer.finishes, 1);
    if (answer.finish != FinishReason::kError) continue;
    ++failed;
    EXPECT_THAT(answer.last.detail, testing::HasSubstr("expert file: cannot read"));
  }
  EXPECT_GE(failed, 1);
  file.Restore();
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(Ask(engine, GreedyRequest(Prompt(i), 8))[0].tokens, before[static_cast<size_t>(i)]);
  }
}

TEST_F(ExpertsBehindDevice, ADiskThatFailsEndsWhoNeedsIt) {
  LoseTheFile(*MakeWith(2 * kExpert, kPassing));
}

TEST_F(TiledExperts, ADiskThatFailsEndsWhoNeedsIt) { LoseTheFile(*MakeWith(kMemory, 0)); }

TEST_F(TiledExperts, AnswersThatNobodyCancelsWasteNothing) {
  const auto engine = MakeWith(kMemory, 0);
  for (int i = 0; i < 8; ++i) Ask(*engine, GreedyRequest(Prompt(i), 24));
  const EngineStats stats = engine->stats();
  EXPECT_GT(stats.experts.loads[0], 8);
  for (const int64_t wasted : stats.experts.wasted_bytes) EXPECT_EQ(wasted, 0);
}

TEST_F(ExpertsBehindDevice, SaysWhatDoesNotFit) {
  const RandomModelSpec spec;
  ReadMeFolder folder("experts_refused");
  WriteReadMe(spec, folder);
  const std::string path = folder.Write();
  const auto error = [&](int64_t device_bytes, int64_t host_bytes) {
    EngineOptions options;
    options.device = std::string("cuda");
    options.expert_storage = std::string("copies");
    options.expert_cache_memory = device_bytes;
    options.expert_host_memory = host_bytes;
    options.expert_cache_dir = testing::TempDir();
    return std::string(SetUpEngine(*LayReadMeOver(MakeRandomModel(spec), path), options, nullptr)
                           .status()
                           .message());
  };
  EXPECT_EQ(error(kExpert - 1, 0),
            absl::StrCat("expert-cache-memory: must hold the largest expert, ", kExpert,
                         " bytes; got ", kExpert - 1));
  EXPECT_EQ(error(2 * kExpert, 5),
            absl::StrCat("expert-host-memory: must hold 3 layers of an expert, ", kPassing,
                         " bytes; got 5"));
}

}  // namespace
}  // namespace pregate
