// Read-ME models of random weights against PyTorch: every form of a checkpoint, tied and copied
// experts, every kernel table. tests/tools/make_read_me_goldens.py made the reference.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model/model_file.h"
#include "kernels/kernels.h"
#include "tests/kernels/table_test.h"
#include "tests/model/model_runner.h"
#include "tests/model/read_me_folder.h"

namespace pregate {
namespace {

constexpr char kData[] = "tests/testdata/read_me/";
constexpr int32_t kVocab = 160;
// Largest difference of a logit, by the largest of its row: the rounding of float sums taken in
// another order, 4 layers deep.
constexpr float kTolerance = 1e-4f;
constexpr ReadMeForm kForms[] = {ReadMeForm::kMasked, ReadMeForm::kFused, ReadMeForm::kResidual,
                                 ReadMeForm::kUntied};

const nlohmann::json& Goldens() {
  static const auto& goldens = *new nlohmann::json(
      nlohmann::json::parse(std::ifstream(std::string(kData) + "cases.json"))["backbone"]);
  return goldens;
}

// The logits of the tied (0) or the untied model (1), of every stride-th token.
std::vector<float> GoldenLogits(size_t index) {
  std::ifstream in(std::string(kData) + "logits.bin", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  const size_t size = bytes.size() / 2;
  std::vector<float> logits(size / sizeof(float));
  std::memcpy(logits.data(), bytes.data() + index * size, size);
  return logits;
}

const std::vector<int32_t>& Ids() {
  static const auto& ids =
      *new std::vector<int32_t>(RandomIds("ids:tiny", Goldens()["tokens"].get<size_t>(), kVocab));
  return ids;
}

const char* Name(ReadMeForm form) {
  const char* names[] = {"masked", "fused", "residual", "untied"};
  return names[static_cast<int>(form)];
}

// The model in one form.
ReadMeFolder& FillFolder(ReadMeForm form, ReadMeFolder& folder) {
  folder.config = Goldens()["config"];
  for (const nlohmann::json& tensor : Goldens()["tensors"]) {
    const std::string name = tensor[0];
    folder.AddRandom(name, tensor[1], name.starts_with("cluster_predictor") ? "tiny:" : "");
  }
  AddExperts({}, form, folder);
  return folder;
}

std::unique_ptr<ModelFile> Open(const ReadMeFolder& folder) {
  auto file = ModelFile::Open(folder.Write());
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}

class ReadMeParity : public testing::TestWithParam<ReadMeForm> {
 protected:
  ReadMeFolder folder_{Name(GetParam())};
  std::unique_ptr<ModelFile> file_ = Open(FillFolder(GetParam(), folder_));
};

// The largest difference of a logit by the largest of its row; the likeliest must be the same.
float Difference(const std::vector<float>& got, const std::vector<float>& want, size_t stride) {
  float largest = 0;
  const float* expected = want.data();
  for (size_t row = stride - 1; row < got.size() / kVocab; row += stride, expected += kVocab) {
    const float* mine = &got[row * kVocab];
    EXPECT_EQ(std::max_element(mine, mine + kVocab) - mine,
              std::max_element(expected, expected + kVocab) - expected)
        << "position " << row;
    float scale = 0, difference = 0;
    for (int i = 0; i < kVocab; ++i) {
      scale = std::max(scale, std::fabs(expected[i]));
      difference = std::max(difference, std::fabs(mine[i] - expected[i]));
    }
    largest = std::max(largest, difference / scale);
  }
  return largest;
}

TEST_P(ReadMeParity, LogitsAndGreedyAnswersOfEveryTable) {
  PREGATE_SKIP_WITHOUT_TABLES();
  const size_t golden = GetParam() == ReadMeForm::kUntied ? 1 : 0;
  const std::vector<float> want = GoldenLogits(golden);
  const size_t stride = Goldens()["stride"];
  for (const TestTable& table : RunnableTables()) {
    std::vector<int32_t> greedy = Goldens()["cases"][golden]["greedy"];
    if (table.slow) greedy.resize(3);  // the last two are steps of one shape
    for (const ExpertStorage storage : {ExpertStorage::kTied, ExpertStorage::kCopies}) {
      SCOPED_TRACE(table.name);
      ModelRunner runner(*file_, *table.kernels, table.make_device(2),
                         {.max_tokens = 128, .expert_storage = storage});
      float difference = 0;
      for (const int32_t chunk : table.slow ? std::vector{96} : std::vector{1, 7, 96}) {
        difference = std::max(difference, Difference(runner.Run(0, Ids(), chunk), want, stride));
      }
      EXPECT_LE(difference, kTolerance);
      EXPECT_EQ(runner.Greedy(Ids(), static_cast<int32_t>(greedy.size())), greedy);
      printf("%-9s %-11s %-6s largest difference of a logit %.1e\n", Name(GetParam()),
             table.name.c_str(), storage == ExpertStorage::kTied ? "tied" : "copies", difference);
    }
  }
}

TEST_P(ReadMeParity, TheExpertsAreTheReferences) {
  ModelRunner runner(*file_, **CpuKernels(), {.max_tokens = 128});
  EXPECT_EQ(runner.Route({{0, Ids()}}), Goldens()["experts"].get<std::vector<int32_t>>());
}

// A row's logits have the same bits alone, in chunks and beside others.
TEST_P(ReadMeParity, BatchesNeverChangeBits) {
  for (const ExpertStorage storage : {ExpertStorage::kTied, ExpertStorage::kCopies}) {
    for (const DType activations : {DType::kF32, DType::kQ16Act}) {
      ModelRunner runner(*file_, **CpuKernels(),
                         {.activations = activations,
                          .num_sequences = 5,
                          .max_tokens = 128,
                          .threads = 2,
                          .expert_storage = storage});
      std::vector<std::vector<float>> alone;
      for (int32_t s = 0; s < 5; ++s) {
        const auto ids = absl::MakeConstSpan(Ids()).subspan(static_cast<size_t>(7 * s));
        alone.push_back(runner.Run(s, ids, 1 + 20 * s));
        runner.Forget(s);
      }
      // Together, one token more for each sequence than for the one before it.
      std::vector<size_t> done(5, 0);
      for (int step = 0; step < 18; ++step) {
        std::vector<ModelRunner::Piece> pieces;
        for (size_t s = 0; s < 5; ++s) {
          const auto ids = absl::MakeConstSpan(Ids()).subspan(7 * s + done[s]);
          const size_t count = std::min(ids.size(), s + 1);
          if (count > 0) pieces.push_back({static_cast<int32_t>(s), ids.first(count)});
        }
        const Tensor logits = runner.Step(pieces);
        int64_t row = 0;
        for (const ModelRunner::Piece& piece : pieces) {
          const auto s = static_cast<size_t>(piece.sequence);
          ASSERT_EQ(std::memcmp(logits.Row<float>(row), &alone[s][done[s] * kVocab],
                                piece.ids.size() * kVocab * sizeof(float)),
                    0)
              << "sequence " << s << ", position " << done[s];
          done[s] += piece.ids.size();
          row += static_cast<int64_t>(piece.ids.size());
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, ReadMeParity, testing::ValuesIn(kForms),
                         [](const testing::TestParamInfo<ReadMeForm>& info) {
                           return Name(info.param);
                         });

std::vector<float> Logits(const ModelFile& file, ExpertStorage storage) {
  ModelRunner runner(file, **CpuKernels(), {.max_tokens = 128, .expert_storage = storage});
  return runner.Run(0, Ids(), 96);
}

int64_t WeightBytes(const ModelFile& file, ExpertStorage storage) {
  return ModelRunner(file, **CpuKernels(), {.expert_storage = storage})
      .transformer()
      .weight_bytes();
}

// The same neurons in the same numbers: only the order in which a down projection adds them
// differs. Each of its sums has about 130 terms, so that the two differ by the rounding of some of
// them.
TEST(ReadMe, TiedIsCopies) {
  ReadMeFolder folder("tied");
  const auto file = Open(FillFolder(ReadMeForm::kFused, folder));
  const std::vector<float> copies = Logits(*file, ExpertStorage::kCopies);
  const float difference = Difference(Logits(*file, ExpertStorage::kTied), copies, 1);
  EXPECT_LE(difference, 130 * 0x1p-24f);
  printf("largest difference of a logit %.1e\n", difference);
}

// Fused and residual checkpoints are tied again: they are then the masked one, bit for bit, and no
// larger than their dense parent.
TEST(ReadMe, FormsBecomeOne) {
  ReadMeFolder masked("masked_once"), fused("fused_once"), residual("residual_once");
  const auto one = Open(FillFolder(ReadMeForm::kMasked, masked));
  const int64_t bytes = WeightBytes(*one, ExpertStorage::kAuto);
  for (const auto& [form, folder] :
       {std::pair{ReadMeForm::kFused, &fused}, std::pair{ReadMeForm::kResidual, &residual}}) {
    const auto file = Open(FillFolder(form, *folder));
    EXPECT_EQ(WeightBytes(*file, ExpertStorage::kAuto), bytes) << Name(form);
    EXPECT_LE(
        Difference(Logits(*file, ExpertStorage::kAuto), Logits(*one, ExpertStorage::kAuto), 1),
        130 * 0x1p-24f);
  }
  ReadMeFolder dense("dense");
  FillFolder(ReadMeForm::kMasked, dense).config["add_cluster_predictor"] = false;
  std::erase_if(dense.tensors, [](const ReadMeFolder::Tensor& tensor) {
    return tensor.name.starts_with("cluster_predictor") || tensor.type == "U8";
  });
  EXPECT_LE(bytes, WeightBytes(*Open(dense), ExpertStorage::kAuto));
  EXPECT_GT(WeightBytes(*one, ExpertStorage::kCopies), bytes);
}

// What an expert does not own must not reach its rows, however large it is.
TEST(ReadMe, OtherExpertsNeuronsCountNothing) {
  ReadMeFolder folder("poisoned");
  FillFolder(ReadMeForm::kMasked, folder);
  std::vector<float> before = Logits(*Open(folder), ExpertStorage::kTied);
  const std::vector<int32_t> experts = Goldens()["experts"];
  // The first token whose expert is not 0; neurons of 0 alone in the last layer become infinite.
  const size_t other = static_cast<size_t>(
      std::find_if(experts.begin(), experts.end(), [](int32_t e) { return e != 0; }) -
      experts.begin());
  std::vector<int64_t> mine = ExpertNeurons({}, 3, 0);
  for (int64_t e = 1; e < 4; ++e) {
    const std::vector<int64_t> theirs = ExpertNeurons({}, 3, e);
    std::erase_if(mine,
                  [&](int64_t n) { return std::binary_search(theirs.begin(), theirs.end(), n); });
  }
  ASSERT_FALSE(mine.empty());
  std::string& gate = folder.Find("model.layers.3.mlp.gate_proj.weight").data;
  auto* rows = reinterpret_cast<float*>(gate.data());
  for (const int64_t n : mine) std::fill_n(rows + 64 * n, 64, 1e38f);
  const std::vector<float> after = Logits(*Open(folder), ExpertStorage::kTied);
  const auto same = [&](size_t row) {
    return std::memcmp(&before[row * kVocab], &after[row * kVocab], kVocab * sizeof(float)) == 0;
  };
  EXPECT_TRUE(same(other));
  EXPECT_FALSE(
      same(static_cast<size_t>(std::find(experts.begin(), experts.end(), 0) - experts.begin())));
  for (size_t row = 0; row < experts.size(); ++row) EXPECT_EQ(same(row), experts[row] != 0) << row;
}

}  // namespace
}  // namespace pregate
