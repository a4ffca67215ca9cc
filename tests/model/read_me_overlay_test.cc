// Routers and masks laid over dense models, run beside these.
#include "engine/model/read_me_overlay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/model/inspect.h"
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

// The numbers are numpy's over the same masks, the digest is that of the folder's manifest.
TEST(ReadMeOverlay, InspectDescribesTheFolder) {
  const std::string folder = "tests/testdata/read_me_smollm2";
  const auto text = DescribeModel(folder);
  ASSERT_TRUE(text.ok()) << text.status();
  for (const char* line :
       {"of a model of   30 layers, hidden 576, FFN 1536, vocabulary 49152\n",
        "experts         7, one for each token in all layers\n",
        "widths          768 of 1536 neurons in a layer, 50.0 %\n",
        "residual        207 to 469 neurons in a layer are every expert's, 44.2 % of one\n",
        "union           1.66 experts' neurons in all; 17.2 % of neurons are nobody's\n",
        "router          1 layer of width 192, 4 heads of 48, scores by 1 / 1, embedding: the "
        "model's first columns\n",
        "parameters      0.2 million, 0.9 MiB\n",
        "sha256          71eba8e40091b2051fb01fb2487550ab2ef573995083e2b6fa9d099d8910012d "
        "model.safetensors\n",
        "cluster_predictor.proj_out.weight"}) {
    EXPECT_TRUE(absl::StrContains(*text, line)) << line << *text;
  }
  std::ifstream manifest(folder + "/manifest.json");
  const std::string json((std::istreambuf_iterator<char>(manifest)), {});
  EXPECT_TRUE(absl::StrContains(json, "71eba8e40091b2051fb01fb2487550ab2ef573995083e2b6fa9d099d"));
}

// Beside its model a folder may leave the model's sizes out; alone it cannot.
TEST(ReadMeOverlay, InspectNeedsTheSizes) {
  const RandomModelSpec spec;
  ReadMeFolder folder("inspect");
  Fill(
      spec, true, [](int64_t e, int64_t f) { return f % 3 == e || f % 5 == 0; }, folder);
  const absl::Status status = DescribeModel(folder.Write()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "num_hidden_layers: must be given")) << status;
  folder.config["num_hidden_layers"] = spec.num_layers;
  folder.config["hidden_size"] = spec.hidden_size;
  folder.config["intermediate_size"] = spec.ffn_size;
  folder.config["vocab_size"] = spec.vocab_size;
  const auto text = DescribeModel(folder.Write());
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_TRUE(absl::StrContains(*text, "experts         2, ")) << *text;
  folder.config["intermediate_size"] = spec.ffn_size + 8;
  EXPECT_EQ(DescribeModel(folder.Write()).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace pregate
