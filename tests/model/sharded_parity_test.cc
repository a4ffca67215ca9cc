// Models on two and four ranks of the host: logits against transformers and PyTorch (the goldens of
// tiny_parity_test and read_me_parity_test), answers and memory against one rank.
#include <gmock/gmock.h>
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
#include "engine/model/model_share.h"
#include "kernels/kernels.h"
#include "tests/model/model_runner.h"
#include "tests/model/random_model.h"
#include "tests/model/read_me_folder.h"
#include "tests/model/tiny_case.h"

namespace pregate {
namespace {

// Largest difference of a logit, by the largest of its row: the rounding of float sums taken in
// another order, 2 to 4 layers deep. Ranks only add one order more.
constexpr float kTolerance = 1e-4f;
// Activations of 16 bits: a rank's part of a row is whole groups of 32, so that ranks round as one
// does, but sums that differ in their last bits may be rounded to neighbouring quants, which are
// 2^-15 of the largest of a group apart; a layer's inputs are rounded four times, two layers deep.
constexpr float kRoundedTolerance = 8 * 0x1p-15f;

struct Way {
  int32_t ranks;
  bool by_expert;
};
std::string Name(const Way& way) {
  return absl::StrCat(way.ranks, way.by_expert ? " by expert" : "");
}

// Whether the model can be dealt out so; if not, notes it in `refused`.
bool CanDealOut(const ModelFile& file, const Way& way, const std::string& name,
                std::vector<std::string>* refused) {
  for (int32_t r = 0; r < way.ranks; ++r) {
    if (ModelShare::Create(file, {r, way.ranks, way.by_expert}).ok()) continue;
    refused->push_back(absl::StrCat(name, ", ", Name(way)));
    return false;
  }
  return true;
}

// Of all rows, by the largest of each.
float Difference(const std::vector<float>& a, const std::vector<float>& b, size_t vocab) {
  EXPECT_EQ(a.size(), b.size());
  float largest = 0;
  for (size_t row = 0; row < std::min(a.size(), b.size()); row += vocab) {
    float scale = 0, difference = 0;
    for (size_t i = row; i < row + vocab; ++i) {
      scale = std::max(scale, std::fabs(b[i]));
      difference = std::max(difference, std::fabs(a[i] - b[i]));
    }
    largest = std::max(largest, difference / scale);
  }
  return largest;
}

// Every stride-th row of logits.
std::vector<float> SomeRows(const std::vector<float>& logits, size_t vocab, size_t stride) {
  std::vector<float> rows;
  for (size_t row = stride - 1; row < logits.size() / vocab; row += stride) {
    rows.insert(rows.end(), &logits[row * vocab], &logits[row * vocab] + vocab);
  }
  return rows;
}

void CheckGoldens(const std::string& name, std::vector<std::string>* refused) {
  const TinyGoldens goldens = ReadTinyGoldens(name);
  for (size_t index = 0; index < goldens.cases.size(); ++index) {
    SCOPED_TRACE(goldens.Name(index));
    const TinyModel model(goldens.cases[index], TinyModel::Format::kSafetensors);
    const auto file = ModelFile::Open(model.path());
    ASSERT_TRUE(file.ok()) << file.status();
    const size_t vocab = goldens.Vocab(index), rows = goldens.ids.size() / goldens.stride;
    const std::vector<float> want(goldens.Logits(index), goldens.Logits(index) + rows * vocab);
    const std::vector<int32_t> greedy = goldens.cases[index]["greedy"];
    const bool mixture = !(*file)->config().mixture.num_experts.empty();
    for (const Way& way : mixture ? std::vector<Way>{{2, false}, {2, true}, {4, false}, {4, true}}
                                  : std::vector<Way>{{2, false}, {4, false}}) {
      if (!CanDealOut(**file, way, goldens.Name(index), refused)) continue;
      SCOPED_TRACE(Name(way));
      ModelRunner::Options options = {.activations = DType::kF32, .max_tokens = 128, .threads = 1};
      options.ranks = way.ranks;
      options.by_expert = way.by_expert;
      ModelRunner runner(**file, **CpuKernels(), options);
      const std::vector<float> got =
          SomeRows(runner.Run(0, goldens.ids, 37), vocab, goldens.stride);
      const float difference = Difference(got, want, vocab);
      EXPECT_LE(difference, kTolerance);
      EXPECT_EQ(runner.Greedy(goldens.ids, static_cast<int32_t>(greedy.size())), greedy);
      printf("%-22s %-12s largest difference of a logit %.1e\n", goldens.Name(index).c_str(),
             Name(way).c_str(), difference);
    }
  }
}

TEST(ShardedParity, DenseModels) {
  std::vector<std::string> refused;
  CheckGoldens("tiny", &refused);
  // Three heads; two.
  EXPECT_THAT(refused, testing::ElementsAre("llama_head96, 2", "llama_head96, 4", "qwen2, 4"));
}

TEST(ShardedParity, Mixtures) {
  std::vector<std::string> refused;
  CheckGoldens("mixtures", &refused);
  // Experts of 75, 48 and 16 neurons are three, two and one unit; the last has a norm over all
  // heads.
  EXPECT_THAT(refused,
              testing::ElementsAre("mixtral, 4", "mixtral_odd_width, 4", "aquilamoe, 4",
                                   "aquilamoe_bias, 4", "qwen2_moe, 4", "qwen2_moe_dense_layer, 4",
                                   "qwen2_moe_ungated, 2", "qwen2_moe_ungated, 4", "qwen3_moe, 4",
                                   "qwen3_moe_sparse_step, 4", "olmoe, 2", "olmoe, 2 by expert",
                                   "olmoe, 4", "olmoe, 4 by expert"));
}

const nlohmann::json& ReadMeGoldens() {
  static const auto& goldens = *new nlohmann::json(
      nlohmann::json::parse(std::ifstream("tests/testdata/read_me/cases.json"))["backbone"]);
  return goldens;
}

// Tied experts, copies, and every form of a checkpoint.
TEST(ShardedParity, ReadMe) {
  const size_t stride = ReadMeGoldens()["stride"];
  std::ifstream in("tests/testdata/read_me/logits.bin", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  const std::vector<int32_t> ids =
      RandomIds("ids:tiny", ReadMeGoldens()["tokens"].get<size_t>(), 160);
  for (const ReadMeForm form :
       {ReadMeForm::kMasked, ReadMeForm::kFused, ReadMeForm::kResidual, ReadMeForm::kUntied}) {
    SCOPED_TRACE(static_cast<int>(form));
    ReadMeFolder folder(absl::StrCat("sharded", static_cast<int>(form)));
    folder.config = ReadMeGoldens()["config"];
    for (const nlohmann::json& tensor : ReadMeGoldens()["tensors"]) {
      const std::string name = tensor[0];
      folder.AddRandom(name, tensor[1], name.starts_with("cluster_predictor") ? "tiny:" : "");
    }
    AddExperts({}, form, folder);
    const auto file = ModelFile::Open(folder.Write());
    ASSERT_TRUE(file.ok()) << file.status();
    const size_t golden = form == ReadMeForm::kUntied ? 1 : 0;
    std::vector<float> want(bytes.size() / 2 / sizeof(float));
    std::memcpy(want.data(), bytes.data() + golden * bytes.size() / 2, bytes.size() / 2);
    const std::vector<int32_t> greedy = ReadMeGoldens()["cases"][golden]["greedy"];
    const auto heads = (*file)->config().num_heads;
    for (const ExpertStorage storage : {ExpertStorage::kTied, ExpertStorage::kCopies}) {
      for (const int32_t ranks : {2, 4}) {
        if (heads % ranks != 0) continue;
        ModelRunner runner(**file, **CpuKernels(),
                           {.activations = DType::kF32,
                            .max_tokens = 128,
                            .threads = 1,
                            .expert_storage = storage,
                            .ranks = ranks});
        const std::vector<float> got = SomeRows(runner.Run(0, ids, 37), 160, stride);
        EXPECT_LE(Difference(got, want, 160), kTolerance) << ranks << " ranks";
        EXPECT_EQ(runner.Greedy(ids, static_cast<int32_t>(greedy.size())), greedy) << ranks;
      }
    }
    EXPECT_EQ(ModelShare::Create(**file, {0, 2, true}).status().code(),
              absl::StatusCode::kUnimplemented);
  }
}

// Blocks of quantised files; biases; norms of heads; what is told of memory and parameters.
TEST(ShardedParity, EachRankHoldsItsShare) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 60; ++i) ids.push_back(i * 37 % 256);
  for (int kind = 0; kind < 4; ++kind) {
    RandomModelSpec spec;
    spec.hidden_size = 128;
    spec.ffn_size = 512;
    spec.matrix_dtype = kind == 1 ? DType::kQ8_0 : DType::kF32;
    spec.tied_embeddings = kind == 1;
    spec.qkv_bias = kind == 1;
    spec.qk_norm = kind == 2;
    spec.sliding_window = kind == 2 ? 24 : 0;
    spec.num_experts = kind == 3 ? 8 : 0;
    spec.shared_ffn_size = kind == 3 ? 256 : 0;
    const auto file = MakeRandomModel(spec);
    ModelRunner::Options options = {.activations = DType::kF32, .max_tokens = 128, .threads = 1};
    ModelRunner alone(*file, **CpuKernels(), options);
    const std::vector<float> want = alone.Run(0, ids, 37);
    const std::vector<int32_t> greedy = alone.Greedy(ids, 20);
    // Of one rank: what every rank has whole, and what is cut.
    int64_t whole = 0;
    for (const TensorInfo& tensor : file->tensors()) {
      const bool norm = tensor.name.find("norm") != std::string::npos;
      const bool gate = tensor.name.find("gate_inp") != std::string::npos;
      if (norm || gate) whole += tensor.bytes;
    }
    const int64_t all = alone.transformer().weight_bytes();
    ModelRunner::Options rounding = options;
    rounding.activations = DType::kQ16Act;
    const std::vector<float> rounded = ModelRunner(*file, **CpuKernels(), rounding).Run(0, ids, 37);
    EXPECT_EQ(Difference(rounded, want, 320) > 0, kind == 1);  // floats are multiplied as floats
    for (const Way& way : {Way{2, false}, {4, false}, {2, true}, {4, true}}) {
      if (way.by_expert && kind != 3) continue;
      SCOPED_TRACE(absl::StrCat("kind ", kind, ", ", Name(way)));
      options.ranks = way.ranks;
      options.by_expert = way.by_expert;
      ModelRunner runner(*file, **CpuKernels(), options);
      EXPECT_LE(Difference(runner.Run(0, ids, 37), want, 320), kTolerance);
      EXPECT_EQ(runner.Greedy(ids, 20), greedy);
      rounding.ranks = way.ranks;
      rounding.by_expert = way.by_expert;
      const float difference =
          Difference(ModelRunner(*file, **CpuKernels(), rounding).Run(0, ids, 37), rounded, 320);
      EXPECT_LE(difference, kRoundedTolerance);
      EXPECT_EQ(runner.transformer().num_parameters(), alone.transformer().num_parameters());
      EXPECT_DOUBLE_EQ(runner.transformer().RowParameters(), alone.transformer().RowParameters());
      const std::vector<int64_t> bytes = runner.transformer().rank_weight_bytes();
      ASSERT_EQ(bytes.size(), static_cast<size_t>(way.ranks));
      // Four ranks share two key-value heads, so that these are twice there.
      const int64_t kv = int64_t{2} * 2 * 2 * 64 * 128 * (kind == 1 ? 34 : 128) / 32;
      const int64_t cut = all - whole + (way.ranks == 4 ? kv : 0);
      for (const int64_t of_rank : bytes) {
        EXPECT_NEAR(static_cast<double>(of_rank - whole), static_cast<double>(cut / way.ranks),
                    0.02 * static_cast<double>(cut / way.ranks));
      }
      printf("kind %d, %-12s %lld bytes of weights alone, %lld on rank 0; rounded %.1e\n", kind,
             Name(way).c_str(), static_cast<long long>(all), static_cast<long long>(bytes[0]),
             difference);
    }
  }
}

// A row's logits have the same bits alone, in chunks and beside others: on ranks as on one.
TEST(ShardedParity, BatchesNeverChangeBits) {
  RandomModelSpec spec;
  spec.num_experts = 6;
  spec.shared_ffn_size = 96;
  const auto file = MakeRandomModel(spec);
  for (const bool by_expert : {false, true}) {
    ModelRunner runner(*file, **CpuKernels(),
                       {.num_sequences = 3, .threads = 2, .ranks = 2, .by_expert = by_expert});
    std::vector<std::vector<int32_t>> ids(3);
    std::vector<std::vector<float>> alone;
    for (int32_t s = 0; s < 3; ++s) {
      for (int32_t i = 0; i < 40; ++i) ids[static_cast<size_t>(s)].push_back((i * 41 + s) % 256);
      alone.push_back(runner.Run(s, ids[static_cast<size_t>(s)], 1 + 9 * s));
      runner.Forget(s);
    }
    const Tensor together = runner.Step({{0, ids[0]}, {1, ids[1]}, {2, ids[2]}});
    for (size_t s = 0; s < 3; ++s) {
      EXPECT_EQ(std::memcmp(together.Row<float>(static_cast<int64_t>(40 * s)), alone[s].data(),
                            alone[s].size() * sizeof(float)),
                0)
          << "sequence " << s;
    }
  }
}

}  // namespace
}  // namespace pregate
