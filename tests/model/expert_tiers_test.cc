// Read-ME models of which two experts of four fit: the bits of a model that holds all of them, from
// the host's memory and from a disk, token by token and in steps that need more than fits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model/read_me_overlay.h"
#include "kernels/quant/tile_layout.h"
#include "tests/engine/read_me_overlay.h"
#include "tests/kernels/table_test.h"
#include "tests/model/model_runner.h"
#include "tests/model/random_model.h"
#include "tests/model/read_me_folder.h"
#include "tests/model/tiny_case.h"

namespace pregate {
namespace {

constexpr int32_t kExperts = 4;
// Of the host's memory: what passes through it.
constexpr int kPassingLayers = 3;

class ExpertTiers : public TableTest {
 protected:
  void SetUp() override {
    TableTest::SetUp();
    if (IsSkipped()) return;
    Make(DType::kF32);
  }
  void Make(DType matrices) {
    spec_.num_layers = 4;
    spec_.matrix_dtype = matrices;
    folder_ = std::make_unique<ReadMeFolder>(absl::StrCat("tiers_", GetParam().name));
    WriteReadMe(spec_, *folder_);
    absl::StatusOr<std::unique_ptr<ModelFile>> file =
        LayReadMeOver(MakeRandomModel(spec_), folder_->Write());
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
    ids_ = RandomIds("ids:tiers", 96, spec_.vocab_size);
  }

  std::unique_ptr<ModelRunner> MakeRunner(const ExpertMemory& memory,
                                          ExpertStorage storage = ExpertStorage::kCopies) {
    return std::make_unique<ModelRunner>(
        *file_, kernels(), MakeDevice(2),
        ModelRunner::Options{
            .max_tokens = 128, .expert_storage = storage, .expert_memory = memory});
  }
  // Whether tiles can come and go with this table on its device.
  bool MovesTiles() {
    return device_->host_memory() &&
           LayoutOfColumnTiles(kernels(), DType::kF32, spec_.hidden_size).groups > 0;
  }
  // Of the largest expert in the store.
  int64_t UnitBytes() {
    int64_t bytes = -1;
    for (const ExpertUnitSize& unit : MakeRunner({})->transformer().ExpertUnits()) {
      bytes += unit.bytes;
    }
    const auto runner = MakeRunner({bytes, testing::TempDir()});
    int64_t largest = 0;
    for (int32_t e = 0; e < kExperts; ++e) {
      largest = std::max(largest, runner->transformer().expert_store()->unit_bytes(e));
    }
    return largest;
  }

  void CheckTiles();

  RandomModelSpec spec_;
  std::unique_ptr<ReadMeFolder> folder_;
  std::unique_ptr<ModelFile> file_;
  std::vector<int32_t> ids_;
};

TEST_P(ExpertTiers, BitsAreThoseOfExpertsThatStay) {
  const int64_t unit = UnitBytes();
  const int64_t passing = kPassingLayers * unit / spec_.num_layers;
  const auto all = MakeRunner({});
  ASSERT_EQ(all->transformer().expert_store(), nullptr);
  const std::vector<int32_t> experts = all->Route({{0, ids_}});
  for (int32_t e = 0; e < kExperts; ++e) {
    ASSERT_TRUE(std::find(experts.begin(), experts.end(), e) != experts.end()) << e;
  }
  for (const int32_t chunk :
       GetParam().slow ? std::vector<int32_t>{96, 1} : std::vector<int32_t>{96, 7, 1}) {
    const auto count = static_cast<size_t>(chunk == 1 && GetParam().slow ? 8 : ids_.size());
    const auto ids = absl::MakeConstSpan(ids_).first(count);
    const std::vector<float> want = all->Run(0, ids, chunk);
    for (const int64_t host : {int64_t{0}, passing + 2 * unit, passing}) {
      const auto runner = MakeRunner({2 * unit, testing::TempDir(), host});
      EXPECT_EQ(runner->transformer().expert_store()->host_cache_bytes() > 0,
                host > passing && !device_->host_memory());
      for (int round = 0; round < 2; ++round) {
        const std::vector<float> got = runner->Run(0, ids, chunk);
        ASSERT_EQ(got.size(), want.size());
        EXPECT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)), 0)
            << "chunk " << chunk << ", host memory " << host << ", round " << round;
      }
      const ExpertCacheStats& stats = runner->expert_stats().cache;
      EXPECT_GE(stats.misses, chunk == 1 ? 2 : 4);
      EXPECT_LE(stats.resident_bytes, 2 * unit);
      std::printf("chunk %d, host memory %lld: %lld hits, %lld misses\n", chunk,
                  static_cast<long long>(host), static_cast<long long>(stats.hits),
                  static_cast<long long>(stats.misses));
    }
  }
}

TEST_P(ExpertTiers, BitsAreThoseOfTilesThatStay) { CheckTiles(); }

// Whose tiles are no whole pages.
TEST_P(ExpertTiers, BitsAreThoseOfQuantisedTilesThatStay) {
  spec_.hidden_size = 192;
  spec_.ffn_size = 1024;
  Make(DType::kQ8_0);
  CheckTiles();
}

void ExpertTiers::CheckTiles() {
  const auto all = MakeRunner({}, ExpertStorage::kTied);
  ASSERT_EQ(all->transformer().expert_store(), nullptr);
  int64_t total = 0;
  for (const ExpertUnitSize& unit : all->transformer().ExpertUnits()) total += unit.bytes;
  if (!MovesTiles()) {
    Transformer::Options options;
    options.max_rows = options.max_logits = 1;
    options.expert_storage = ExpertStorage::kTied;
    options.expert_memory = {total - 1, testing::TempDir()};
    const std::unique_ptr<Device> device = MakeDevice(2);
    EXPECT_EQ(Transformer::Create(*file_, device.get(), &kernels(), options).status().code(),
              absl::StatusCode::kInvalidArgument);
    return;
  }
  // What the neediest expert reads, and all of them.
  int64_t largest = 0, stored = 0, pinned = 0;
  const auto units = MakeRunner({total - 1, testing::TempDir()}, ExpertStorage::kTied)
                         ->transformer()
                         .ExpertUnits();
  for (int32_t e = 0; e < kExperts; ++e) {
    int64_t bytes = 0;
    for (const ExpertUnitSize& unit : units) bytes += (unit.readers >> e & 1) * unit.bytes;
    largest = std::max(largest, bytes);
  }
  for (const ExpertUnitSize& unit : units) {
    stored += unit.bytes;
    if (unit.readers == (1u << kExperts) - 1) pinned += unit.bytes;
  }
  // A step of all of them streams two layers of four.
  const int64_t least = std::max(largest, pinned + (stored - pinned) / 2);
  EXPECT_GE(stored, total);
  EXPECT_GT(pinned, 0);
  EXPECT_LT(least, stored);
  for (const int32_t chunk : {96, 7, 1}) {
    const std::vector<float> want = all->Run(0, ids_, chunk);
    for (const int64_t memory : {least, (least + stored) / 2}) {
      const auto runner = MakeRunner({memory, testing::TempDir()}, ExpertStorage::kTied);
      ASSERT_NE(runner->transformer().expert_store(), nullptr);
      for (int round = 0; round < 2; ++round) {
        const std::vector<float> got = runner->Run(0, ids_, chunk);
        ASSERT_EQ(got.size(), want.size());
        EXPECT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)), 0)
            << "chunk " << chunk << ", memory " << memory << ", round " << round;
      }
      const ExpertCacheStats& stats = runner->expert_stats().cache;
      EXPECT_GE(stats.misses, 2);
      EXPECT_LE(stats.resident_bytes, memory);
      EXPECT_GE(stats.resident_bytes, pinned);
      for (const int64_t wasted : stats.wasted_bytes) EXPECT_EQ(wasted, 0);
      std::printf("chunk %d, %lld of %lld bytes, %zu units: %lld hits, %lld misses\n", chunk,
                  static_cast<long long>(memory), static_cast<long long>(stored), units.size(),
                  static_cast<long long>(stats.hits), static_cast<long long>(stats.misses));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, ExpertTiers, testing::ValuesIn(TablesUnderTest()), TableName);

}  // namespace
}  // namespace pregate
