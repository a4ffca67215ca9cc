// Read-ME folders and overlays: sound ones, and every way in which they can lie.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/model/model_file.h"
#include "engine/model/read_me_overlay.h"
#include "tests/model/gguf_writer.h"
#include "tests/model/read_me_folder.h"

namespace pregate {
namespace {

constexpr ReadMeSizes kSizes = {.layers = 2, .hidden = 64, .ffn = 100, .experts = 3};

nlohmann::json RouterConfig() {
  return {{"add_cluster_predictor", true},
          {"train_predictor", false},
          {"embedding_dim", 16},
          {"inter_dim", 16},
          {"N_cluster", 3},
          {"n_layer", 1},
          {"n_head", 2},
          {"normalizer", 1.0},
          {"nonautoregressive", false},
          {"hidden_act_predictor", "silu"}};
}

void AddRouter(ReadMeFolder& folder, int64_t vocab) {
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
    folder.AddRandom("cluster_predictor." + name, shape);
  };
  add("embed.weight", {vocab, 16});
  add("input_layernorm_0.weight", {16});
  add("post_attention_layernorm_0.weight", {16});
  for (const std::string name : {"q_proj", "k_proj", "v_proj", "o_proj", "proj_1", "proj_2"}) {
    add(name + "_0.weight", {16, 16});
    add(name + "_0.bias", {16});
  }
  add("out_layernorm.weight", {16});
  add("proj_out.weight", {3, 16});
  add("proj_out.bias", {3});
}

// The narrow experts of these tests: the first neurons by thirds, overlapping.
std::string Masks() {
  std::vector<std::vector<int64_t>> neurons(3);
  for (int64_t f = 0; f < 99; ++f) {
    for (size_t e = 0; e < 3; ++e) {
      if (f % 4 == static_cast<int64_t>(e) || f % 5 == 0) neurons[e].push_back(f);
    }
  }
  return PackMasks(neurons, kSizes.ffn);
}

std::unique_ptr<ReadMeFolder> Sound(ReadMeForm form) {
  auto folder = std::make_unique<ReadMeFolder>("files");
  folder->config = {{"model_type", "llama"},
                    {"hidden_size", 64},
                    {"intermediate_size", 100},
                    {"num_hidden_layers", 2},
                    {"num_attention_heads", 1},
                    {"num_key_value_heads", 1},
                    {"vocab_size", 8},
                    {"max_position_embeddings", 64},
                    {"tie_word_embeddings", true}};
  folder->config.update(RouterConfig());
  folder->AddRandom("model.embed_tokens.weight", {8, 64});
  folder->AddRandom("model.norm.weight", {64});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    folder->AddRandom(prefix + "input_layernorm.weight", {64});
    folder->AddRandom(prefix + "post_attention_layernorm.weight", {64});
    for (const std::string name : {"q", "k", "v", "o"}) {
      folder->AddRandom(absl::StrCat(prefix, "self_attn.", name, "_proj.weight"), {64, 64});
    }
    if (form == ReadMeForm::kMasked) {
      folder->AddRandom(prefix + "mlp.gate_proj.weight", {100, 64});
      folder->AddRandom(prefix + "mlp.up_proj.weight", {100, 64});
      folder->AddRandom(prefix + "mlp.down_proj.weight", {64, 100});
      folder->tensors.push_back({prefix + "mlp.expert_masks", "U8", {3, 13}, Masks()});
      continue;
    }
    const auto add = [&](const std::string& part, int64_t width) {
      folder->AddRandom(absl::StrCat(prefix, "moe.gate_proj_", part, ".weight"), {width, 64});
      folder->AddRandom(absl::StrCat(prefix, "moe.up_proj_", part, ".weight"), {width, 64});
      folder->AddRandom(absl::StrCat(prefix, "moe.down_proj_", part, ".weight"), {64, width});
    };
    for (int e = 0; e < 3; ++e) add(absl::StrCat(e), 31 + 2 * layer + e);
    if (form == ReadMeForm::kResidual) add("residual", 7 + layer);
  }
  AddRouter(*folder, 8);
  return folder;
}

TEST(ReadMeFiles, SoundFolders) {
  for (const ReadMeForm form : {ReadMeForm::kMasked, ReadMeForm::kFused, ReadMeForm::kResidual}) {
    const auto folder = Sound(form);
    const auto file = ModelFile::Open(folder->Write());
    ASSERT_TRUE(file.ok()) << file.status();
    const ReadMeConfig& config = (*file)->config().read_me;
    EXPECT_EQ(config.num_experts, 3);
    EXPECT_EQ(config.embedding_dim, 16);
    EXPECT_EQ(config.head_dim(), 8);
    EXPECT_EQ(config.kv_layers(), 1);
    const bool masked = form == ReadMeForm::kMasked;
    EXPECT_EQ(config.masked, masked);
    ASSERT_EQ((*file)->neuron_owners().size(), masked ? 2u : 0u);
    if (masked) {
      const std::vector<uint64_t>& owners = (*file)->neuron_owners()[1];
      ASSERT_EQ(owners.size(), 100u);
      EXPECT_EQ(owners[0], 0b111u);
      EXPECT_EQ(owners[9], 0b010u);
      EXPECT_EQ(owners[3], 0u);
      EXPECT_EQ(owners[99], 0u);
    } else {
      EXPECT_EQ((*file)->Find("blk.1.ffn_down.2.weight").cols, 35);
      EXPECT_EQ(static_cast<bool>((*file)->Find("blk.0.ffn_gate.residual.weight")),
                form == ReadMeForm::kResidual);
    }
    EXPECT_EQ((*file)->Find("cluster_predictor.proj_out.weight").rows, 3);
  }
}

struct Lie {
  ReadMeForm form;
  std::string message;  // its beginning
  std::function<void(ReadMeFolder&)> change;
};

void Remove(ReadMeFolder& folder, const std::string& name) {
  std::erase_if(folder.tensors, [&](const ReadMeFolder::Tensor& t) { return t.name == name; });
}

// What a lie changes.
using Change = std::function<void(ReadMeFolder&)>;
Change Set(const char* name, const nlohmann::json& value) {
  return [=](ReadMeFolder& folder) { folder.config[name] = value; };
}
Change Reshape(const char* name, const std::vector<int64_t>& shape) {
  return [=](ReadMeFolder& folder) {
    Remove(folder, name);
    folder.AddRandom(name, shape);
  };
}
Change Without(const char* name) {
  return [=](ReadMeFolder& folder) { Remove(folder, name); };
}
Change Add(const char* name, const std::vector<int64_t>& shape) {
  return [=](ReadMeFolder& folder) { folder.AddRandom(name, shape); };
}
Change Edit(const char* name, const std::function<void(ReadMeFolder::Tensor&)>& change) {
  return [=](ReadMeFolder& folder) { change(folder.Find(name)); };
}

std::vector<Lie> ConfigLies() {
  return {
      {ReadMeForm::kMasked, "config.json: train_predictor: must be false",
       Set("train_predictor", true)},
      {ReadMeForm::kMasked, "config.json: N_cluster: must be in [2, 64]; got 65",
       Set("N_cluster", 65)},
      {ReadMeForm::kMasked, "config.json: N_cluster: must be in [2, 64]; got 1",
       Set("N_cluster", 1)},
      {ReadMeForm::kMasked, "config.json: N_cluster: must be given", Set("N_cluster", nullptr)},
      {ReadMeForm::kMasked, "config.json: N_cluster: must be an integer",
       Set("N_cluster", "seven")},
      {ReadMeForm::kMasked, "config.json: inter_dim: must be as embedding_dim 16; got 32",
       Set("inter_dim", 32)},
      {ReadMeForm::kMasked, "config.json: n_head: must divide embedding_dim 16", Set("n_head", 3)},
      {ReadMeForm::kMasked, "config.json: n_head: must divide embedding_dim 16", Set("n_head", 16)},
      {ReadMeForm::kMasked, "config.json: n_layer: must be in [1, 64]", Set("n_layer", 0)},
      {ReadMeForm::kMasked, "config.json: normalizer: must be in", Set("normalizer", 0.0)},
      {ReadMeForm::kMasked, "config.json: normalizer: must be in", Set("normalizer", -1.0)},
      {ReadMeForm::kMasked, "config.json: hidden_act_predictor: must be 'silu'",
       Set("hidden_act_predictor", "gelu")},
  };
}

std::vector<Lie> RouterLies() {
  return {
      {ReadMeForm::kMasked, "tensor cluster_predictor.embed.weight: must be [8, 16]; got [9, 16]",
       Reshape("cluster_predictor.embed.weight", {9, 16})},
      {ReadMeForm::kMasked, "tensor cluster_predictor.embed.weight: the model has no such tensor",
       Set("frozen_embedding", true)},
      {ReadMeForm::kMasked, "tensor cluster_predictor.input_layernorm_1.weight: must be given",
       Set("n_layer", 2)},
      {ReadMeForm::kMasked,
       "tensor cluster_predictor.input_layernorm_0.weight: the model has no such tensor",
       Set("nonautoregressive", true)},
      {ReadMeForm::kMasked, "tensor cluster_predictor.proj_out.bias: must be given",
       Without("cluster_predictor.proj_out.bias")},
      {ReadMeForm::kMasked, "tensor cluster_predictor.wpe.weight: the model has no such tensor",
       Add("cluster_predictor.wpe.weight", {4, 16})},
  };
}

constexpr char kMask[] = "model.layers.1.mlp.expert_masks";

std::vector<Lie> MaskLies() {
  return {
      {ReadMeForm::kMasked, absl::StrCat("tensor ", kMask, ": must be [3, 13]; got [3, 12]"),
       Edit(kMask,
            [](auto& t) {
              t.shape = {3, 12}, t.data.resize(36);
            })},
      {ReadMeForm::kMasked, absl::StrCat("tensor ", kMask, ": must be [3, 13]; got [4, 13]"),
       Edit(kMask,
            [](auto& t) {
              t.shape = {4, 13}, t.data.resize(52);
            })},
      {ReadMeForm::kMasked, absl::StrCat("tensor ", kMask, ": must be [3, 13]; got [39]"),
       Edit(kMask, [](auto& t) { t.shape = {39}; })},
      {ReadMeForm::kMasked, absl::StrCat("tensor ", kMask, ": type must be U8; got 'I8'"),
       Edit(kMask, [](auto& t) { t.type = "I8"; })},
      {ReadMeForm::kMasked,
       absl::StrCat("tensor ", kMask, ": must not name neurons beyond 99; got 100"),
       Edit(kMask, [](auto& t) { t.data[12] = 0x10; })},
      {ReadMeForm::kMasked,
       absl::StrCat("tensor ", kMask, ": every expert must own a neuron; got none for 1"),
       Edit(kMask, [](auto& t) { std::fill_n(t.data.begin() + 13, 13, '\0'); })},
      {ReadMeForm::kMasked, absl::StrCat("tensor ", kMask, ": must be given"), Without(kMask)},
      {ReadMeForm::kMasked, "tensor model.layers.2.mlp.expert_masks: the model has 2 layers",
       Edit(kMask, [](auto& t) { t.name = "model.layers.2.mlp.expert_masks"; })},
      {ReadMeForm::kMasked,
       "tensor model.layers.01.mlp.expert_masks: the architecture has no such tensor",
       Edit(kMask, [](auto& t) { t.name = "model.layers.01.mlp.expert_masks"; })},
      {ReadMeForm::kMasked,
       "tensor model.layers.0.mlp.expert_masks: the architecture has no such tensor",
       Set("add_cluster_predictor", false)},
      {ReadMeForm::kMasked, "tensor blk.0.ffn_gate.0.weight: the model has no such tensor",
       Add("model.layers.0.moe.gate_proj_0.weight", {31, 64})},
  };
}

std::vector<Lie> ExpertLies() {
  return {
      {ReadMeForm::kFused, "tensor blk.1.ffn_up.2.weight: must be [35, 64]; got [34, 64]",
       Reshape("model.layers.1.moe.up_proj_2.weight", {34, 64})},
      {ReadMeForm::kFused, "tensor blk.1.ffn_down.2.weight: must be [64, 35]; got [35, 64]",
       Reshape("model.layers.1.moe.down_proj_2.weight", {35, 64})},
      {ReadMeForm::kFused, "tensor blk.0.ffn_gate.1.weight: must be given",
       Without("model.layers.0.moe.gate_proj_1.weight")},
      {ReadMeForm::kFused, "tensor blk.0.ffn_gate.3.weight: the model has no such tensor",
       Add("model.layers.0.moe.gate_proj_3.weight", {31, 64})},
      {ReadMeForm::kFused, "tensor blk.0.ffn_down.residual.weight: the model has no such tensor",
       Add("model.layers.0.moe.down_proj_residual.weight", {64, 8})},
      {ReadMeForm::kFused,
       "tensor blk.0.ffn_up.1.weight: must have the type of the layer's others, F32",
       [](ReadMeFolder& f) {
         Remove(f, "model.layers.0.moe.up_proj_1.weight");
         f.AddFloats("model.layers.0.moe.up_proj_1.weight", {32, 64},
                     std::vector<float>(32 * 64, 0.5f), DType::kBF16);
       }},
      {ReadMeForm::kFused, "tensor blk.0.ffn_gate.weight: the architecture has no such tensor",
       Add("model.layers.0.mlp.gate_proj.weight", {100, 64})},
      {ReadMeForm::kResidual, "tensor blk.1.ffn_up.residual.weight: must be given",
       Without("model.layers.1.moe.up_proj_residual.weight")},
      {ReadMeForm::kResidual, "tensor blk.1.ffn_down.residual.weight: must be [64, 8]",
       Reshape("model.layers.1.moe.down_proj_residual.weight", {64, 9})},
  };
}

TEST(ReadMeFiles, EveryLieIsFoundAndNamed) {
  for (const auto& lies : {ConfigLies(), RouterLies(), MaskLies(), ExpertLies()}) {
    for (const Lie& lie : lies) {
      const auto folder = Sound(lie.form);
      lie.change(*folder);
      const auto file = ModelFile::Open(folder->Write());
      ASSERT_FALSE(file.ok()) << lie.message;
      EXPECT_TRUE(absl::StartsWith(file.status().message(), lie.message))
          << file.status() << "\nexpected " << lie.message;
    }
  }
}

// --- Overlays ---

class Overlay : public testing::Test {
 protected:
  Overlay() : folder_("overlay") {
    folder_.config = RouterConfig();
    folder_.config["model_type"] = "read_me_overlay";
    folder_.config["num_hidden_layers"] = 2;
    folder_.config["intermediate_size"] = 100;
    const GgufWriter gguf = MakeTinyGguf({.ffn = 100, .kv_heads = 4});
    gguf_path_ = testing::TempDir() + "read_me_overlay.gguf";
    std::ofstream(gguf_path_, std::ios::binary) << gguf.Build();
    vocab_ = OpenModel()->config().vocab_size;
    AddRouter(folder_, vocab_);
    for (int layer = 0; layer < 2; ++layer) {
      folder_.tensors.push_back(
          {absl::StrCat("model.layers.", layer, ".mlp.expert_masks"), "U8", {3, 13}, Masks()});
    }
  }

  ~Overlay() override { std::filesystem::remove(gguf_path_); }

  std::unique_ptr<ModelFile> OpenModel() const {
    auto file = ModelFile::Open(gguf_path_);
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }

  absl::StatusOr<std::unique_ptr<ModelFile>> Lay() {
    return LayReadMeOver(OpenModel(), folder_.Write());
  }

  ReadMeFolder folder_;
  std::string gguf_path_;
  int32_t vocab_ = 0;
};

TEST_F(Overlay, ShowsTheModelWithExperts) {
  const auto file = Lay();
  ASSERT_TRUE(file.ok()) << file.status();
  const ModelConfig config = OpenModel()->config();
  EXPECT_EQ((*file)->config().architecture, config.architecture);
  EXPECT_EQ((*file)->config().read_me.num_experts, 3);
  EXPECT_TRUE((*file)->config().read_me.masked);
  EXPECT_EQ((*file)->neuron_owners()[1][9], 0b010u);
  EXPECT_EQ((*file)->Find("blk.0.ffn_gate.weight").rows, 100);
  EXPECT_EQ((*file)->Find("cluster_predictor.proj_out.weight").rows, 3);
  EXPECT_EQ((*file)->tensors().size(), OpenModel()->tensors().size() + 18);
}

TEST_F(Overlay, AFrozenEmbeddingIsNotStored) {
  folder_.config["frozen_embedding"] = true;
  EXPECT_FALSE(Lay().ok());
  Remove(folder_, "cluster_predictor.embed.weight");
  EXPECT_TRUE(Lay().ok());
}

TEST_F(Overlay, MustFitTheModel) {
  const auto refused = [&](const std::string& message) {
    const auto file = Lay();
    ASSERT_FALSE(file.ok()) << message;
    EXPECT_TRUE(absl::StartsWith(file.status().message(), message)) << file.status();
  };
  const nlohmann::json sound = folder_.config;
  folder_.config["num_hidden_layers"] = 3;
  refused("config.json: num_hidden_layers: must be as the model's, 2; got 3");
  folder_.config = sound;
  folder_.config["intermediate_size"] = 96;
  refused("config.json: intermediate_size: must be as the model's, 100; got 96");
  folder_.config = sound;
  folder_.config["rope_theta"] = 5e5;
  refused("config.json: rope_theta: must be as the model's, 10000; got 500000");
  folder_.config = sound;
  folder_.config["model_type"] = "llama";
  refused("config.json: model_type: must be 'read_me_overlay'; got 'llama'");
  folder_.config = sound;
  folder_.config["add_cluster_predictor"] = false;
  refused("config.json: add_cluster_predictor: must be true");
  folder_.config = sound;
  folder_.AddRandom("model.norm.weight", {64});
  refused("tensor output_norm.weight: the model has its own");
  Remove(folder_, "model.norm.weight");
  Remove(folder_, "model.layers.0.mlp.expert_masks");
  refused("tensor model.layers.0.mlp.expert_masks: must be given");
}

TEST_F(Overlay, NotOverAnotherReadMeModel) {
  auto once = Lay();
  ASSERT_TRUE(once.ok());
  const auto twice = LayReadMeOver(*std::move(once), folder_.Write());
  ASSERT_FALSE(twice.ok());
  EXPECT_TRUE(
      absl::StartsWith(twice.status().message(), "read-me: must be laid over a dense model"))
      << twice.status();
}

}  // namespace
}  // namespace pregate
