// Sound models: the real samples field by field, and a tiny one of each architecture.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "engine/model/model_contents.h"
#include "engine/model/model_file.h"
#include "tests/model/gguf_writer.h"
#include "tests/sample_models.h"

namespace pregate {
namespace {

TEST(RealModel, SmolLm2) {
  const std::string path = SampleModelPath("SmolLM2-135M-Instruct.Q4_1.gguf");
  if (path.empty()) GTEST_SKIP() << "SmolLM2-135M-Instruct.Q4_1.gguf is not in the model cache";
  const auto file = ModelFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const ModelConfig& c = (*file)->config();
  EXPECT_EQ((*file)->format(), "GGUF v3");
  EXPECT_EQ(c.architecture, "llama");
  EXPECT_EQ(c.name, "Smollm2 135M 8k Lc100K Mix1 Ep2");
  EXPECT_EQ(c.num_layers, 30);
  EXPECT_EQ(c.hidden_size, 576);
  EXPECT_EQ(c.ffn_size, 1536);
  EXPECT_EQ(c.num_heads, 9);
  EXPECT_EQ(c.num_kv_heads, 3);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.vocab_size, 49152);
  EXPECT_EQ(c.context_length, 8192);
  EXPECT_FLOAT_EQ(c.rms_norm_eps, 1e-5f);
  EXPECT_EQ(c.norm_weight_offset, 0.0f);
  EXPECT_EQ(c.activation, Activation::kSilu);
  EXPECT_EQ(c.embedding_scale, 1.0f);
  EXPECT_EQ(c.attention_scale, 0.125f);
  EXPECT_EQ(c.attention_soft_cap, 0.0f);
  EXPECT_EQ(c.final_logit_soft_cap, 0.0f);
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_EQ(c.rope_style, RopeStyle::kInterleaved);
  ASSERT_EQ(c.inv_freq.size(), 32u);
  EXPECT_EQ(c.inv_freq[0], 1.0f);
  EXPECT_NEAR(c.inv_freq[31], std::pow(100000.0, -62.0 / 64.0), 1e-10);
  EXPECT_EQ(c.rope_magnitude, 1.0f);
  EXPECT_EQ(c.sliding_window, 0);
  EXPECT_TRUE(c.layer_is_local.empty());
  EXPECT_TRUE(c.local_inv_freq.empty());

  const TokenizerSpec& t = (*file)->tokenizer();
  EXPECT_EQ(t.model, TokenizerSpec::Model::kByteBpe);
  EXPECT_EQ(t.pre_tokenizer, "smollm");
  EXPECT_EQ(t.tokens.size(), 49152u);
  EXPECT_EQ(t.tokens[2], "<|im_end|>");
  EXPECT_EQ(t.token_types[2], TokenizerSpec::kControl);
  EXPECT_EQ(t.merges.size(), 48900u);
  EXPECT_EQ(t.merges[0], std::pair(std::string("\xC4\xA0"), std::string("t")));
  EXPECT_EQ(t.bos_id, 1);
  EXPECT_EQ(t.eos_id, 2);
  EXPECT_EQ(t.unknown_id, 0);
  EXPECT_THAT(t.end_of_turn_ids, testing::ElementsAre(0, 2));
  EXPECT_FALSE(t.add_bos || t.add_eos || t.add_space_prefix || t.ignore_merges || t.nfc_normalize);
  EXPECT_THAT((*file)->chat_template(), testing::StartsWith("{% for message in messages %}"));

  EXPECT_EQ((*file)->tensors().size(), 272u);
  const auto q = (*file)->Require("blk.29.attn_q.weight", 576, 576);
  ASSERT_TRUE(q.ok()) << q.status();
  EXPECT_EQ(q->dtype, DType::kQ4_1);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(q->data) % 32, 0u);
  EXPECT_FALSE((*file)->Find("output.weight"));
  EXPECT_EQ((*file)->Require("output.weight", 1, 1).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(RealModel, Gemma3) {
  const std::string path = SampleModelPath("gemma-3-270m-q4_k_m.gguf");
  if (path.empty()) GTEST_SKIP() << "gemma-3-270m-q4_k_m.gguf is not in the model cache";
  const auto file = ModelFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const ModelConfig& c = (*file)->config();
  EXPECT_EQ(c.architecture, "gemma3");
  EXPECT_EQ(c.num_layers, 18);
  EXPECT_EQ(c.hidden_size, 640);
  EXPECT_EQ(c.ffn_size, 2048);
  EXPECT_EQ(c.num_heads, 4);
  EXPECT_EQ(c.num_kv_heads, 1);
  EXPECT_EQ(c.head_dim, 256);
  EXPECT_EQ(c.vocab_size, 262144);
  EXPECT_EQ(c.context_length, 32768);
  EXPECT_FLOAT_EQ(c.rms_norm_eps, 1e-6f);
  EXPECT_EQ(c.norm_weight_offset, 0.0f);
  EXPECT_EQ(c.activation, Activation::kGeluTanh);
  EXPECT_FLOAT_EQ(c.embedding_scale, std::sqrt(640.0f));
  EXPECT_EQ(c.attention_scale, 0.0625f);
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_EQ(c.rope_style, RopeStyle::kHalves);
  ASSERT_EQ(c.inv_freq.size(), 128u);
  EXPECT_NEAR(c.inv_freq[64], 1e-3, 1e-9);
  ASSERT_EQ(c.local_inv_freq.size(), 128u);
  EXPECT_NEAR(c.local_inv_freq[64], 1e-2, 1e-8);
  EXPECT_EQ(c.sliding_window, 512);
  EXPECT_THAT(c.layer_is_local,
              testing::ElementsAre(1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0));
  const TokenizerSpec& t = (*file)->tokenizer();
  EXPECT_EQ(t.model, TokenizerSpec::Model::kSentencePieceBpe);
  EXPECT_EQ(t.tokens.size(), 262144u);
  EXPECT_EQ(t.scores.size(), 262144u);
  EXPECT_EQ(t.bos_id, 2);
  EXPECT_EQ(t.eos_id, 1);
  EXPECT_EQ(t.unknown_id, 3);
  EXPECT_THAT(t.end_of_turn_ids, testing::ElementsAre(106));
  EXPECT_TRUE(t.add_bos);
  EXPECT_FALSE(t.add_eos || t.add_space_prefix);
  EXPECT_EQ((*file)->tensors().size(), 236u);
  const auto down = (*file)->Require("blk.0.ffn_down.weight", 640, 2048);
  ASSERT_TRUE(down.ok()) << down.status();
  EXPECT_EQ(down->dtype, DType::kQ6_K);
}

class TinyModel : public testing::TestWithParam<std::string> {};

TEST_P(TinyModel, IsRead) {
  TinyGgufOptions options;
  options.architecture = GetParam();
  options.tied = false;
  options.layers = 7;
  for (const uint32_t version : {2u, 3u}) {
    GgufWriter writer = MakeTinyGguf(options);
    writer.version = version;
    const std::string bytes = writer.Build();
    const auto model = ReadGgufModel(bytes);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->config.architecture, GetParam());
    EXPECT_FALSE(model->config.tied_embeddings);
    EXPECT_EQ(model->config.vocab_size, 259);
    EXPECT_EQ(model->config.rope_style == RopeStyle::kInterleaved, GetParam() == "llama");
    EXPECT_THAT(model->tokenizer.end_of_turn_ids, testing::ElementsAre(257, 258));
  }
}
INSTANTIATE_TEST_SUITE_P(Architectures, TinyModel,
                         testing::Values("llama", "qwen2", "qwen3", "gemma3"),
                         [](const auto& info) { return info.param; });

TEST(TinyMixture, FactsOfTheFamilies) {
  struct Family {
    const char* architecture;
    bool renormalize;
    int32_t expert_ffn_size;
    int32_t shared_ffn_size;
  };
  for (const Family& family : {Family{"llama", true, 96, 0}, Family{"qwen2moe", false, 32, 64},
                               Family{"qwen3moe", true, 32, 0}, Family{"olmoe", false, 96, 0}}) {
    SCOPED_TRACE(family.architecture);
    TinyGgufOptions options;
    options.architecture = family.architecture;
    options.experts = 4;
    options.expert_ffn = family.expert_ffn_size;
    options.shared_ffn = family.shared_ffn_size;
    const std::string together = MakeTinyGguf(options).Build();
    options.split_experts = true;
    const std::string split = MakeTinyGguf(options).Build();
    for (const std::string& bytes : {together, split}) {
      const auto model = ReadGgufModel(bytes);
      ASSERT_TRUE(model.ok()) << model.status();
      const MixtureConfig& mixture = model->config.mixture;
      EXPECT_THAT(mixture.num_experts, testing::ElementsAre(4, 4));
      EXPECT_EQ(mixture.gate.k, 2);
      EXPECT_EQ(mixture.gate.scoring, GateParams::Scoring::kSoftmax);
      EXPECT_EQ(mixture.gate.renormalize, family.renormalize);
      EXPECT_EQ(mixture.gate.scale, 1.0f);
      EXPECT_EQ(mixture.expert_ffn_size, family.expert_ffn_size);
      EXPECT_EQ(mixture.shared_ffn_size, family.shared_ffn_size);
      EXPECT_EQ(model->config.norms_by_head, std::string("olmoe") != family.architecture);
      const auto down = std::find_if(
          model->tensors.begin(), model->tensors.end(),
          [](const TensorInfo& tensor) { return tensor.name == "blk.1.ffn_down.3.weight"; });
      ASSERT_NE(down, model->tensors.end());
      EXPECT_THAT(down->shape, testing::ElementsAre(64, family.expert_ffn_size));
      EXPECT_EQ(down->bytes, 64 * family.expert_ffn_size * 4);
    }
  }
}

TEST(TinyMixture, WhatTheFileSaysOfTheGateCounts) {
  TinyGgufOptions options;
  options.architecture = "qwen3moe";
  options.experts = 4;
  GgufWriter writer = MakeTinyGguf(options);
  writer.SetBool("qwen3moe.expert_weights_norm", false);
  writer.SetF32("qwen3moe.expert_weights_scale", 2.5f);
  writer.SetU32("qwen3moe.expert_gating_func", 2);
  const std::string bytes = writer.Build();
  const auto model = ReadGgufModel(bytes);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_FALSE(model->config.mixture.gate.renormalize);
  EXPECT_EQ(model->config.mixture.gate.scale, 2.5f);
  EXPECT_EQ(model->config.mixture.gate.scoring, GateParams::Scoring::kSigmoid);
}

TEST(TinyModelVariants, Llama3FactorsDivideTheFrequencies) {
  GgufWriter writer = MakeTinyGguf({});
  const std::string plain_bytes = writer.Build();
  const auto plain = ReadGgufModel(plain_bytes);
  const std::vector<float> factors = {1, 1, 1, 2, 2.5f, 8, 8, 8};
  writer.AddTensor("rope_freqs.weight", {8}, 0,
                   std::string(reinterpret_cast<const char*>(factors.data()), 32));
  const std::string bytes = writer.Build();
  const auto model = ReadGgufModel(bytes);
  ASSERT_TRUE(plain.ok() && model.ok()) << model.status();
  for (size_t i = 0; i < factors.size(); ++i) {
    EXPECT_EQ(model->config.inv_freq[i], plain->config.inv_freq[i] / factors[i]);
  }
}

TEST(TinyModelVariants, AlignmentWindowAndPattern) {
  TinyGgufOptions options;
  options.architecture = "gemma3";
  options.layers = 4;
  GgufWriter writer = MakeTinyGguf(options);
  writer.alignment = 64;
  writer.SetU32("general.alignment", 64);
  writer.SetU32("gemma3.attention.sliding_window_pattern", 2);
  writer.SetF32("gemma3.rope.freq_base_swa", 5000.0f);
  writer.SetF32("gemma3.final_logit_softcapping", 30.0f);
  const std::string bytes = writer.Build();
  const auto model = ReadGgufModel(bytes);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(model->config.layer_is_local, testing::ElementsAre(1, 0, 1, 0));
  EXPECT_NEAR(model->config.local_inv_freq[4], 1.0 / std::sqrt(5000.0), 1e-7);
  EXPECT_EQ(model->config.final_logit_soft_cap, 30.0f);
}

TEST(TokenizerDefaults, FollowTheTokenizerModel) {
  GgufWriter writer = MakeTinyGguf({});
  writer.SetString("tokenizer.ggml.pre", "llama-bpe");
  const std::string llama3_bytes = writer.Build();
  const auto llama3 = ReadGgufModel(llama3_bytes);
  ASSERT_TRUE(llama3.ok()) << llama3.status();
  EXPECT_TRUE(llama3->tokenizer.add_bos && llama3->tokenizer.ignore_merges);

  writer.SetString("tokenizer.ggml.model", "llama");
  writer.SetFloats("tokenizer.ggml.scores", std::vector<float>(259, -1.0f));
  for (const char* key : {"bos_token_id", "eos_token_id", "merges"}) {
    writer.Remove(std::string("tokenizer.ggml.") + key);
  }
  const std::string spm_bytes = writer.Build();
  const auto spm = ReadGgufModel(spm_bytes);
  ASSERT_TRUE(spm.ok()) << spm.status();
  EXPECT_TRUE(spm->tokenizer.add_bos && spm->tokenizer.add_space_prefix);
  EXPECT_EQ(spm->tokenizer.unknown_id, 0);
  EXPECT_EQ(spm->tokenizer.bos_id, 1);
  EXPECT_EQ(spm->tokenizer.eos_id, 2);
}

TEST(Open, SaysWhatIsWrongWithThePath) {
  EXPECT_EQ(ModelFile::Open("/nonexistent.gguf").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ModelFile::Open("/dev/null").status().code(), absl::StatusCode::kInvalidArgument);
  const auto folder = std::filesystem::path(testing::TempDir()) / "empty_model_folder";
  std::filesystem::create_directories(folder);
  EXPECT_EQ(ModelFile::Open(folder.string()).status().code(), absl::StatusCode::kNotFound);
  const auto pickle = folder / "pytorch_model.bin";
  std::ofstream(pickle) << "PK\x03\x04 and so on";
  EXPECT_EQ(ModelFile::Open(pickle.string()).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pregate
