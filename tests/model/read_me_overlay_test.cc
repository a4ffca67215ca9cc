// Routers and masks laid over dense models, run beside these.
#include "engine/model/read_me_overlay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/kernels.h"
#include "tests/model/model_runner.h"
#include "tests/model/random_model.h"
#include "tests/model/read_me_folder.h"

namespace pregate {
namespace {

constexpr int64_t kWidth = 16;  // of the router

// A folder for models of `spec`; experts own what `owns` says.
template <typename Owns>
void Fill(const RandomModelSpec& spec, bool frozen, const Owns& owns, ReadMeFolder& folder) {
  folder.config = {{"model_type", "read_me_overlay"},
                   {"add_cluster_predictor", true},
                   {"embedding_dim", kWidth},
                   {"inter_dim", kWidth},
                   {"N_cluster", 2},
                   {"n_layer", 1},
                   {"n_head", 2},
                   {"frozen_embedding", frozen}};
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
    folder.AddRandom("cluster_predictor." + name, shape);
  };
  for (const char* name : {"input_layernorm_0", "post_attention_layernorm_0", "out_layernorm"}) {
    add(absl::StrCat(name, ".weight"), {kWidth});
  }
  for (const std::string name : {"q_proj", "k_proj", "v_proj", "o_proj", "proj_1", "proj_2"}) {
    add(name + "_0.weight", {kWidth, kWidth});
    add(name + "_0.bias", {kWidth});
  }
  add("proj_out.weight", {2, kWidth});
  add("proj_out.bias", {2});
  std::vector<std::vector<int64_t>> neurons(2);
  for (int64_t f = 0; f < spec.ffn_size; ++f) {
    for (int64_t e = 0; e < 2; ++e) {
      if (owns(e, f)) neurons[static_cast<size_t>(e)].push_back(f);
    }
  }
  for (int32_t layer = 0; layer < spec.num_layers; ++layer) {
    folder.tensors.push_back({absl::StrCat("model.layers.", layer, ".mlp.expert_masks"),
                              "U8",
                              {2, (spec.ffn_size + 7) / 8},
                              PackMasks(neurons, spec.ffn_size)});
  }
}

std::unique_ptr<ModelFile> Lay(const RandomModelSpec& spec, const ReadMeFolder& folder) {
  auto file = LayReadMeOver(MakeRandomModel(spec), folder.Write());
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}

std::vector<float> Logits(const ModelFile& file, const std::vector<int32_t>& ids,
                          ExpertStorage storage = ExpertStorage::kAuto) {
  ModelRunner runner(file, **CpuKernels(), {.max_tokens = 128, .expert_storage = storage});
  return runner.Run(0, ids, 96);
}

// The largest difference, by the largest number.
float Difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float difference = 0, scale = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::fabs(a[i] - b[i]));
    scale = std::max(scale, std::fabs(b[i]));
  }
  return difference / scale;
}

// In Q8_0 the neurons keep their order, so that blocks are made of the very numbers that they said.
TEST(ReadMeOverlay, ExpertsOfEverythingAreTheDenseModel) {
  const std::vector<int32_t> ids = RandomIds("overlay", 96, 320);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kQ8_0}) {
    // A width that fills no tile, where the type allows it.
    const RandomModelSpec spec = {.ffn_size = dtype == DType::kQ8_0 ? 160 : 131,
                                  .matrix_dtype = dtype};
    ReadMeFolder folder("everything");
    Fill(
        spec, true, [](int64_t, int64_t) { return true; }, folder);
    const auto file = Lay(spec, folder);
    const std::vector<float> dense = Logits(*MakeRandomModel(spec), ids);
    for (const ExpertStorage storage : {ExpertStorage::kTied, ExpertStorage::kCopies}) {
      EXPECT_LE(Difference(Logits(*file, ids, storage), dense), 1e-6f) << GetDTypeInfo(dtype).name;
    }
  }
}

// Neurons of Q8_0 that change places share blocks with others: a third of the FFN's numbers are
// rounded once more, beside all numbers of the model that have been rounded once.
TEST(ReadMeOverlay, BlocksAreMadeAnewForNewNeighbours) {
  const std::vector<int32_t> ids = RandomIds("overlay", 96, 320);
  const auto owns = [](int64_t e, int64_t f) { return f % 3 == e || f % 5 == 0; };
  const RandomModelSpec exact = {.ffn_size = 160, .matrix_dtype = DType::kF32};
  RandomModelSpec blocks = exact;
  blocks.matrix_dtype = DType::kQ8_0;
  ReadMeFolder folder("blocks");
  Fill(exact, true, owns, folder);
  const std::vector<float> want = Logits(*Lay(exact, folder), ids);
  const std::vector<float> dense = Logits(*MakeRandomModel(exact), ids);
  const float once = Difference(Logits(*MakeRandomModel(blocks), ids), dense);
  EXPECT_LE(Difference(Logits(*Lay(blocks, folder), ids), want), 2 * once);
  EXPECT_GT(Difference(dense, want), 10 * once);
}

TEST(ReadMeOverlay, AFrozenEmbeddingIsTheFirstColumnsOfTheModels) {
  const std::vector<int32_t> ids = RandomIds("overlay", 96, 320);
  const RandomModelSpec spec;
  const auto owns = [](int64_t e, int64_t f) { return f % 2 == e; };
  ReadMeFolder frozen("frozen"), stored("stored");
  Fill(spec, true, owns, frozen);
  Fill(spec, false, owns, stored);
  const std::vector<float> table =
      RandomTensor("1:token_embd.weight", spec.vocab_size, spec.hidden_size);
  std::vector<float> columns;
  for (int64_t row = 0; row < spec.vocab_size; ++row) {
    const float* first = &table[static_cast<size_t>(row * spec.hidden_size)];
    columns.insert(columns.end(), first, first + kWidth);
  }
  stored.AddFloats("cluster_predictor.embed.weight", {spec.vocab_size, kWidth}, columns);
  const auto a = Lay(spec, frozen), b = Lay(spec, stored);
  ModelRunner first(*a, **CpuKernels(), {}), second(*b, **CpuKernels(), {});
  const std::vector<int32_t> experts = first.Route({{0, ids}});
  EXPECT_EQ(experts, second.Route({{0, ids}}));
  EXPECT_EQ(first.router().logits().rows, 96);
  EXPECT_EQ(std::memcmp(first.router().logits().data, second.router().logits().data,
                        96 * 2 * sizeof(float)),
            0);
  EXPECT_NE(std::count(experts.begin(), experts.end(), 0), 0);
  EXPECT_NE(std::count(experts.begin(), experts.end(), 1), 0);
}

}  // namespace
}  // namespace pregate
