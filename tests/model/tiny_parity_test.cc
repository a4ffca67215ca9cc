// Tiny random models, one for each thing that the families differ in, against transformers.
// tests/tools/make_parity_goldens.py made the reference numbers; both sides know the weights from
// the formula of RandomElement.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "engine/model/model_file.h"
#include "kernels/kernels.h"
#include "tests/kernels/table_test.h"
#include "tests/model/model_runner.h"
#include "tests/model/tiny_case.h"

namespace pregate {
namespace {

// Largest difference of a logit, by the largest logit of its row: the rounding of float sums taken
// in another order, 2 to 4 layers deep.
constexpr float kTolerance = 1e-4f;
// The same where the inputs of matrices are rounded to halves, to 11 bits.
constexpr float kHalvesTolerance = 4e-3f;

struct Case {
  std::string goldens;
  size_t index;
  TinyModel::Format format;
};

void PrintTo(const Case& test_case, std::ostream* out) {
  *out << test_case.goldens << ' ' << test_case.index;
}

const TinyGoldens& GoldensOf(const std::string& name) {
  static auto& all = *new std::map<std::string, TinyGoldens>();
  const auto [found, missing] = all.try_emplace(name);
  if (missing) found->second = ReadTinyGoldens(name);
  return found->second;
}

std::vector<Case> Cases(const std::string& name, TinyModel::Format format) {
  std::vector<Case> cases;
  for (size_t i = 0; i < GoldensOf(name).cases.size(); ++i) cases.push_back({name, i, format});
  return cases;
}

class TinyParity : public testing::TestWithParam<Case> {
 protected:
  TinyParity() : model_(goldens().cases[index()], GetParam().format) {}

  void SetUp() override {
    auto file = ModelFile::Open(model_.path());
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
  }

  const TinyGoldens& goldens() const { return GoldensOf(GetParam().goldens); }
  size_t index() const { return GetParam().index; }

  // The largest difference of a logit; the likeliest token must be the same everywhere.
  float LargestDifference(const std::vector<float>& got) const {
    const size_t vocab = goldens().Vocab(index()), stride = goldens().stride;
    const float* want = goldens().Logits(index());
    float largest = 0;
    for (size_t row = stride - 1; row < got.size() / vocab; row += stride, want += vocab) {
      const float* mine = &got[row * vocab];
      EXPECT_EQ(std::max_element(mine, mine + vocab) - mine,
                std::max_element(want, want + vocab) - want)
          << "position " << row;
      const float unit = *std::max_element(want, want + vocab);
      for (size_t i = 0; i < vocab; ++i) {
        largest = std::max(largest, std::fabs(mine[i] - want[i]) / unit);
      }
    }
    return largest;
  }

  std::unique_ptr<ModelFile> file_;

 private:
  TinyModel model_;
};

TEST_P(TinyParity, LogitsAndGreedyAnswersOfEveryTable) {
  PREGATE_SKIP_WITHOUT_TABLES();
  for (const TestTable& table : RunnableTables()) {
    SCOPED_TRACE(table.name);
    std::vector<int32_t> greedy = goldens().cases[index()]["greedy"];
    if (table.slow) greedy.resize(3);  // the last two are steps of one shape
    ModelRunner runner(*file_, *table.kernels, table.make_device(2),
                       {.activations = DType::kF32, .max_tokens = 128});
    float difference = 0;
    for (const int32_t chunk : table.slow ? std::vector{37} : std::vector{1, 7, 64}) {
      difference = std::max(difference, LargestDifference(runner.Run(0, goldens().ids, chunk)));
    }
    EXPECT_LE(difference, kTolerance);
    EXPECT_EQ(runner.Greedy(goldens().ids, static_cast<int32_t>(greedy.size())), greedy);
    printf("%-22s %-11s largest difference of a logit %.1e\n", goldens().Name(index()).c_str(),
           table.name.c_str(), difference);
  }
}

TEST_P(TinyParity, LogitsOfRoundedActivations) {
  PREGATE_SKIP_WITHOUT_TABLES();
  for (const TestTable& table : RunnableTables()) {
    if (table.kernels->activation_dtype[static_cast<int>(DType::kBF16)] == DType::kF32) continue;
    SCOPED_TRACE(table.name);
    ModelRunner runner(*file_, *table.kernels, table.make_device(2), {.max_tokens = 128});
    const float difference = LargestDifference(runner.Run(0, goldens().ids, 37));
    EXPECT_LE(difference, kHalvesTolerance);
    printf("%-22s %-11s largest difference of a logit %.1e\n", goldens().Name(index()).c_str(),
           table.name.c_str(), difference);
  }
}

// Prompts in chunks beside single tokens of others: each row as if it were alone, to the bit.
TEST_P(TinyParity, RowsDoNotDependOnTheirBatch) {
  PREGATE_SKIP_WITHOUT_TABLES();
  constexpr int32_t kChunks[] = {1, 5, 11};
  constexpr int32_t kSequences = 3;
  std::vector<std::vector<int32_t>> ids(kSequences, goldens().ids);
  std::reverse(ids[1].begin(), ids[1].end());
  std::rotate(ids[2].begin(), ids[2].begin() + 17, ids[2].end());
  const size_t vocab = goldens().Vocab(index()), length = ids[0].size();
  for (const TestTable& table : RunnableTables()) {
    if (table.slow) continue;
    SCOPED_TRACE(table.name);
    // Activations stay floats: of those that are halves a library may multiply whole matrices.
    ModelRunner runner(*file_, *table.kernels, table.make_device(2),
                       {.activations = DType::kF32, .num_sequences = kSequences, .max_tokens = 64});
    std::vector<std::vector<float>> alone;
    for (int32_t s = 0; s < kSequences; ++s) alone.push_back(runner.Run(s, ids[s], 64));
    std::vector<size_t> done(kSequences);
    for (int32_t s = 0; s < kSequences; ++s) runner.Forget(s);
    while (true) {
      std::vector<ModelRunner::Piece> pieces;
      for (int32_t s = 0; s < kSequences; ++s) {
        const absl::Span<const int32_t> left = absl::MakeConstSpan(ids[s]).subspan(done[s]);
        if (!left.empty())
          pieces.push_back({s, left.first(std::min<size_t>(kChunks[s], left.size()))});
      }
      if (pieces.empty()) break;
      const Tensor logits = runner.Step(pieces);
      int64_t row = 0;
      for (const auto& [s, piece] : pieces) {
        for (size_t i = 0; i < piece.size(); ++i, ++row, ++done[s]) {
          const float* want = &alone[s][done[s] * vocab];
          ASSERT_TRUE(std::equal(want, want + vocab, logits.Row<float>(row)))
              << "sequence " << s << ", position " << done[s];
        }
      }
    }
    EXPECT_EQ(done, std::vector<size_t>(kSequences, length));
  }
}

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  return GoldensOf(info.param.goldens).Name(info.param.index);
}

using enum TinyModel::Format;
INSTANTIATE_TEST_SUITE_P(Families, TinyParity, testing::ValuesIn(Cases("tiny", kSafetensors)),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(Mixtures, TinyParity, testing::ValuesIn(Cases("mixtures", kSafetensors)),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(MixturesInGguf, TinyParity, testing::ValuesIn(Cases("mixtures", kGguf)),
                         CaseName);

}  // namespace
}  // namespace pregate
