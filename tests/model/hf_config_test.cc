// config.json: every served family, the rotary frequencies against transformers, and wrong members.
#include "engine/model/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace pregate {
namespace {

using absl::StatusCode;
using nlohmann::json;

json Base(const std::string& model_type) {
  return {{"model_type", model_type},      {"vocab_size", 64},       {"hidden_size", 64},
          {"intermediate_size", 96},       {"num_hidden_layers", 6}, {"num_attention_heads", 4},
          {"num_key_value_heads", 2},      {"head_dim", 16},         {"rms_norm_eps", 1e-5},
          {"max_position_embeddings", 512}};
}

struct RopeGolden {
  std::string name;
  std::string config;
  std::vector<float> inv_freq;
  std::vector<float> local_inv_freq;
  float magnitude;
};
const RopeGolden kRopeGolden[] = {
#include "tests/model/rope_golden.inc"
};

// Theirs are float32 all the way, ours double until the end.
void ExpectClose(const std::vector<float>& got, const std::vector<float>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 2e-6 * want[i]) << i;
}

TEST(HfConfig, RotaryFrequenciesAreThoseOfTransformers) {
  for (const RopeGolden& golden : kRopeGolden) {
    SCOPED_TRACE(golden.name);
    const auto config = ReadHuggingFaceConfig(golden.config);
    ASSERT_TRUE(config.ok()) << config.status();
    ExpectClose(config->inv_freq, golden.inv_freq);
    ExpectClose(config->local_inv_freq, golden.local_inv_freq);
    EXPECT_NEAR(config->rope_magnitude, golden.magnitude, 1e-6);
  }
}

TEST(HfConfig, Families) {
  const auto llama = ReadHuggingFaceConfig(Base("llama").dump());
  ASSERT_TRUE(llama.ok()) << llama.status();
  EXPECT_EQ(llama->architecture, "llama");
  EXPECT_EQ(llama->rope_style, RopeStyle::kHalves);
  EXPECT_EQ(llama->num_kv_heads, 2);
  EXPECT_EQ(llama->attention_scale, 0.25f);
  EXPECT_FALSE(llama->tied_embeddings);

  json yi_json = Base("Yi");
  yi_json["head_dim"] = nullptr;
  yi_json["hidden_act"] = "silu";
  const auto yi = ReadHuggingFaceConfig(yi_json.dump());
  ASSERT_TRUE(yi.ok()) << yi.status();
  EXPECT_EQ(yi->head_dim, 16);
  EXPECT_NEAR(yi->inv_freq[4], 1.0 / std::sqrt(5e6), 1e-9);

  json mistral_json = Base("mistral");
  mistral_json["sliding_window"] = 128;
  const auto mistral = ReadHuggingFaceConfig(mistral_json.dump());
  ASSERT_TRUE(mistral.ok()) << mistral.status();
  EXPECT_EQ(mistral->sliding_window, 128);
  EXPECT_THAT(mistral->layer_is_local, testing::Each(1));
  mistral_json["sliding_window"] = nullptr;
  EXPECT_TRUE(ReadHuggingFaceConfig(mistral_json.dump())->layer_is_local.empty());

  json qwen_json = Base("qwen2");
  qwen_json["sliding_window"] = 128;
  qwen_json["max_window_layers"] = 4;
  EXPECT_TRUE(ReadHuggingFaceConfig(qwen_json.dump())->layer_is_local.empty());
  qwen_json["use_sliding_window"] = true;
  EXPECT_THAT(ReadHuggingFaceConfig(qwen_json.dump())->layer_is_local,
              testing::ElementsAre(0, 0, 0, 0, 1, 1));

  json qwen3_json = Base("qwen3");
  qwen3_json.erase("head_dim");
  EXPECT_EQ(ReadHuggingFaceConfig(qwen3_json.dump())->head_dim, 128);
}

json MixtureBase(const std::string& model_type) {
  json config = Base(model_type);
  config.update(
      {{"num_experts_per_tok", 2},
       {model_type == "mixtral" || model_type == "aquilamoe" ? "num_local_experts" : "num_experts",
        4}});
  if (model_type.starts_with("qwen")) config["moe_intermediate_size"] = 24;
  if (model_type == "qwen2_moe") config["shared_expert_intermediate_size"] = 40;
  return config;
}

TEST(HfConfig, Mixtures) {
  struct Want {
    const char* model_type;
    const char* architecture;
    bool renormalize;
    int32_t expert_ffn_size;
    int32_t shared_ffn_size;
  };
  for (const Want& want :
       {Want{"mixtral", "mixtral", true, 96, 0}, Want{"aquilamoe", "mixtral", true, 96, 0},
        Want{"qwen2_moe", "qwen2moe", false, 24, 40}, Want{"qwen3_moe", "qwen3moe", false, 24, 0},
        Want{"olmoe", "olmoe", false, 96, 0}}) {
    SCOPED_TRACE(want.model_type);
    json config_json = MixtureBase(want.model_type);
    const auto config = ReadHuggingFaceConfig(config_json.dump());
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->architecture, want.architecture);
    EXPECT_EQ(config->mixture.num_experts, std::vector<int32_t>(6, 4));
    EXPECT_EQ(config->mixture.gate.k, 2);
    EXPECT_EQ(config->mixture.gate.renormalize, want.renormalize);
    EXPECT_EQ(config->mixture.expert_ffn_size, want.expert_ffn_size);
    EXPECT_EQ(config->mixture.shared_ffn_size, want.shared_ffn_size);
    EXPECT_EQ(config->norms_by_head, want.architecture != std::string("olmoe"));
    if (want.architecture == std::string("mixtral")) continue;
    config_json["norm_topk_prob"] = true;
    EXPECT_TRUE(ReadHuggingFaceConfig(config_json.dump())->mixture.gate.renormalize);
  }
}

TEST(HfConfig, DenseLayersAmongSparseOnes) {
  json config = MixtureBase("qwen3_moe");
  config["decoder_sparse_step"] = 2;
  EXPECT_THAT(ReadHuggingFaceConfig(config.dump())->mixture.num_experts,
              testing::ElementsAre(0, 4, 0, 4, 0, 4));
  config["mlp_only_layers"] = {3, 0};
  EXPECT_THAT(ReadHuggingFaceConfig(config.dump())->mixture.num_experts,
              testing::ElementsAre(0, 4, 0, 0, 0, 4));
}

TEST(HfConfig, MixtureDefaultsAndWindows) {
  json config = MixtureBase("mixtral");
  config.erase("rms_norm_eps");
  config["sliding_window"] = 128;
  const auto mixtral = ReadHuggingFaceConfig(config.dump());
  ASSERT_TRUE(mixtral.ok()) << mixtral.status();
  EXPECT_FLOAT_EQ(mixtral->rms_norm_eps, 1e-5f);
  EXPECT_NEAR(mixtral->inv_freq[4], 1e-3, 1e-9);  // theta 1e6
  EXPECT_THAT(mixtral->layer_is_local, testing::Each(1));
}

TEST(HfConfig, Gemma3) {
  json gemma_json = Base("gemma3_text");
  gemma_json["sliding_window"] = 32;
  gemma_json["query_pre_attn_scalar"] = 64;
  const auto gemma = ReadHuggingFaceConfig(gemma_json.dump());
  ASSERT_TRUE(gemma.ok()) << gemma.status();
  EXPECT_EQ(gemma->architecture, "gemma3");
  EXPECT_EQ(gemma->activation, Activation::kGeluTanh);
  EXPECT_EQ(gemma->norm_weight_offset, 1.0f);
  EXPECT_EQ(gemma->embedding_scale, 8.0f);
  EXPECT_EQ(gemma->attention_scale, 0.125f);
  EXPECT_TRUE(gemma->tied_embeddings);
  EXPECT_THAT(gemma->layer_is_local, testing::ElementsAre(1, 1, 1, 1, 1, 0));

  gemma_json["layer_types"] = {"full_attention",    "sliding_attention", "full_attention",
                               "sliding_attention", "full_attention",    "full_attention"};
  EXPECT_THAT(ReadHuggingFaceConfig(gemma_json.dump())->layer_is_local,
              testing::ElementsAre(0, 1, 0, 1, 0, 0));

  // The 4B with images: what its text part leaves out is known of its class.
  const json both = {{"model_type", "gemma3"},
                     {"text_config",
                      {{"hidden_size", 2560},
                       {"intermediate_size", 10240},
                       {"model_type", "gemma3_text"},
                       {"num_hidden_layers", 34},
                       {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}},
                       {"sliding_window", 1024}}}};
  const auto text = ReadHuggingFaceConfig(both.dump());
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->num_heads, 8);
  EXPECT_EQ(text->num_kv_heads, 4);
  EXPECT_EQ(text->head_dim, 256);
  EXPECT_EQ(text->vocab_size, 262208);
  EXPECT_EQ(text->context_length, 131072);
  EXPECT_EQ(text->attention_scale, 0.0625f);
  EXPECT_EQ(text->inv_freq[0], 0.125f);
  EXPECT_EQ(text->local_inv_freq[0], 1.0f);
}

struct WrongMember {
  std::string model_type;
  std::string member;
  json value;
  StatusCode code;
  std::string says;
};

std::vector<WrongMember> WrongMembers() {
  constexpr StatusCode kMalformed = StatusCode::kInvalidArgument;
  constexpr StatusCode kNotServed = StatusCode::kUnimplemented;
  return {
      {"llama", "model_type", "gpt_neox", kNotServed, "model_type"},
      {"llama", "model_type", 3, kMalformed, "model_type: must be a string; got number"},
      {"llama", "model_type", nullptr, kMalformed, "model_type: must be given"},
      {"llama", "hidden_act", "relu", kNotServed, "hidden_act"},
      {"llama", "head_dim", 512, kMalformed, "head_dim: must be in [1, 256]; got 512"},
      {"llama", "rms_norm_eps", "1e-5", kMalformed, "rms_norm_eps"},
      {"llama", "tie_word_embeddings", 1, kMalformed, "tie_word_embeddings"},
      {"llama", "rope_theta", 0, kMalformed, "base frequency"},
      {"llama", "rope_scaling", 4, kMalformed, "rope_scaling: must be an object"},
      {"llama", "rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}, kNotServed, "rope_type"},
      {"llama", "rope_scaling", {{"type", "longrope"}, {"factor", 2.0}}, kNotServed, "rope_type"},
      {"llama", "rope_scaling", {{"type", "linear"}}, kMalformed, "factor: must be given"},
      {"llama", "rope_scaling", {{"type", "linear"}, {"factor", -1}}, kMalformed, "factor"},
      {"llama",
       "rope_scaling",
       {{"type", "llama3"},
        {"factor", 8},
        {"low_freq_factor", 4},
        {"high_freq_factor", 4},
        {"original_max_position_embeddings", 8192}},
       kMalformed,
       "low_freq_factor"},
      {"llama", "partial_rotary_factor", 0.01, kMalformed, "partial_rotary_factor"},
      {"mistral", "sliding_window", 0, kMalformed, "sliding_window"},
      {"gemma3_text", "sliding_window", -1, kMalformed, "sliding_window"},
      {"gemma3_text", "query_pre_attn_scalar", 0, kMalformed, "query_pre_attn_scalar"},
      {"gemma3_text", "use_bidirectional_attention", true, kNotServed, "use_bidirectional"},
      {"mixtral", "num_local_experts", 1025, kMalformed, "num_local_experts"},
      {"qwen2_moe", "shared_expert_intermediate_size", -1, kMalformed, "shared_expert"},
      {"qwen2_moe", "shared_expert_intermediate_size", nullptr, kMalformed, "must be given"},
      {"qwen2_moe", "norm_topk_prob", 1, kMalformed, "norm_topk_prob: must be"},
      {"qwen2_moe", "use_sliding_window", true, kNotServed, "use_sliding_window"},
      {"qwen3_moe", "decoder_sparse_step", 0, kMalformed, "decoder_sparse_step"},
      {"qwen3_moe", "mlp_only_layers", 3, kMalformed, "mlp_only_layers: must be an array"},
      {"qwen3_moe",
       "mlp_only_layers",
       {6},
       kMalformed,
       "mlp_only_layers: entries must be in [0, 5]"},
      {"qwen3_moe", "mlp_only_layers", {-1}, kMalformed, "mlp_only_layers"},
      {"qwen3_moe", "mlp_only_layers", {"0"}, kMalformed, "mlp_only_layers"},
      {"qwen3_moe", "mlp_only_layers", {uint64_t{1} << 40}, kMalformed, "mlp_only_layers"},
      {"olmoe", "clip_qkv", 8.0, kNotServed, "clip_qkv: must be null"},
  };
}

std::vector<WrongMember> WrongQuantizations() {
  constexpr StatusCode kMalformed = StatusCode::kInvalidArgument;
  constexpr StatusCode kNotServed = StatusCode::kUnimplemented;
  return {
      {"llama", "quantization_config", json::object(), kMalformed, "quant_method: must be given"},
      {"llama", "quantization_config", {{"quant_method", "gptq"}}, kNotServed, "quant_method"},
      {"llama",
       "quantization_config",
       {{"quant_method", "fp8"}, {"weight_block_size", {64, 128}}},
       kNotServed,
       "weight_block_size: must be [128, 128]"},
      {"llama",
       "quantization_config",
       {{"quant_method", "compressed-tensors"}, {"format", "pack-quantized"}},
       kNotServed,
       "format: must be float-quantized"},
      {"llama",
       "quantization_config",
       {{"quant_method", "compressed-tensors"},
        {"format", "float-quantized"},
        {"config_groups", {{"g", {{"weights", {{"num_bits", 4}, {"type", "float"}}}}}}}},
       kNotServed,
       "config_groups.g.weights.type: weights must be floats of 8 bits"},
      {"llama",
       "quantization_config",
       {{"quant_method", "compressed-tensors"},
        {"format", "float-quantized"},
        {"config_groups",
         {{"g", {{"weights", {{"num_bits", 8}, {"type", "float"}, {"strategy", "group"}}}}}}}},
       kNotServed,
       "strategy"},
  };
}

// Sizes as anything but a size.
std::vector<WrongMember> WrongSizes(const std::string& model_type,
                                    const std::vector<std::string>& members) {
  std::vector<WrongMember> cases;
  for (const std::string& member : members) {
    for (const json& value : {json(0), json(-1), json("64"), json(1.5), json(uint64_t{1} << 32),
                              json(UINT64_MAX), json::array({64})}) {
      cases.push_back({model_type, member, value, StatusCode::kInvalidArgument, member});
    }
    cases.push_back(
        {model_type, member, nullptr, StatusCode::kInvalidArgument, member + ": must be given"});
  }
  return cases;
}

TEST(HfConfig, WrongMembersAreNamed) {
  std::vector<WrongMember> cases = WrongMembers();
  for (const auto& more :
       {WrongQuantizations(),
        WrongSizes("qwen2", {"num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size",
                             "max_position_embeddings", "num_attention_heads"}),
        WrongSizes("qwen3_moe", {"num_experts", "num_experts_per_tok", "moe_intermediate_size"})}) {
    cases.insert(cases.end(), more.begin(), more.end());
  }
  for (const WrongMember& wrong : cases) {
    json config = MixtureBase(wrong.model_type);
    config["sliding_window"] = 32;
    config[wrong.member] = wrong.value;
    SCOPED_TRACE(wrong.member + " = " + wrong.value.dump());
    const auto read = ReadHuggingFaceConfig(config.dump());
    EXPECT_EQ(read.status().code(), wrong.code) << read.status();
    EXPECT_THAT(std::string(read.status().message()), testing::HasSubstr(wrong.says));
  }
}

TEST(HfConfig, WrongLayerTypes) {
  for (const json& types :
       {json("full_attention"), json::array({"full_attention"}),
        json(std::vector<std::string>(6, "chunked_attention")), json(std::vector<int>(6, 1))}) {
    json config = Base("gemma3_text");
    config["sliding_window"] = 32;
    config["layer_types"] = types;
    const auto read = ReadHuggingFaceConfig(config.dump());
    EXPECT_FALSE(read.ok());
    EXPECT_THAT(std::string(read.status().message()), testing::HasSubstr("layer_types"));
  }
}

TEST(HfConfig, BrokenJson) {
  const std::string deep = std::string(100000, '[');
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("{\"a\": \"\xFF\"}"), deep,
        "{\"a\":" + deep + std::string(100000, ']') + "}"}) {
    const auto read = ReadHuggingFaceConfig(text);
    EXPECT_EQ(read.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(read.status().message()), testing::StartsWith("config.json: must"));
  }
}

}  // namespace
}  // namespace pregate
