// Mixtures of experts in a GGUF file that lies (reliability rows V6, E8, E9).
#include <gtest/gtest.h>

#include <cmath>

#include "engine/model/model_contents.h"
#include "tests/model/gguf_lies.h"
#include "tests/model/gguf_writer.h"

namespace pregate {
namespace {

class GgufMixtureLie : public testing::TestWithParam<Lie> {};

// Told of a model that has 4 experts and a shared one.
TEST_P(GgufMixtureLie, IsRefusedByName) {
  TinyGgufOptions options;
  options.architecture = "qwen2moe";
  options.experts = 4;
  options.shared_ffn = 64;
  ExpectRefusal(MakeTinyGguf(options), GetParam());
}

std::vector<Lie> MetadataLies() {
  std::vector<Lie> lies;
  for (const char* key : {"expert_count", "expert_used_count", "expert_feed_forward_length"}) {
    const std::vector<Lie> more = SizeLies(std::string("qwen2moe.") + key);
    lies.insert(lies.end(), more.begin(), more.end());
  }
  const auto set = [](std::string key, uint32_t value) {
    return [=](GgufWriter& w) { w.SetU32("qwen2moe." + key, value); };
  };
  const auto scale = [](float value) {
    return [=](GgufWriter& w) { w.SetF32("qwen2moe.expert_weights_scale", value); };
  };
  const std::vector<Lie> more = {
      {"E9_experts_absent", [](auto& w) { w.Remove("qwen2moe.expert_count"); }, kMalformed,
       "qwen2moe.expert_count: must be given"},
      {"E9_experts_1025", set("expert_count", 1025), kMalformed, "qwen2moe.expert_count"},
      {"E9_experts_5", set("expert_count", 5), kDoesNotFit, "must be of 3 dimensions, the first 5"},
      {"E9_experts_used_5", set("expert_used_count", 5), kMalformed,
       "num_experts: must be in [experts_per_token 5, 1024]; got 4"},
      {"E9_expert_width", set("expert_feed_forward_length", 31), kDoesNotFit, "blk.0.ffn_gate.0"},
      {"E9_shared_width", set("expert_shared_feed_forward_length", 63), kDoesNotFit,
       "blk.0.ffn_gate_shexp"},
      {"E9_shared_none", set("expert_shared_feed_forward_length", 0), kDoesNotFit, "shexp"},
      {"E9_scale_nan", scale(std::nanf("")), kMalformed, "expert_weights_scale: must be finite"},
      {"E9_scale_negative", scale(-1), kMalformed, "expert_weights_scale"},
      {"E9_scoring_3", set("expert_gating_func", 3), kMalformed, "expert_gating_func"},
      {"E9_norm_integer", set("expert_weights_norm", 1), kMalformed,
       "expert_weights_norm: must be a bool"},
  };
  lies.insert(lies.end(), more.begin(), more.end());
  return lies;
}

std::vector<Lie> TensorLies() {
  const std::string up = "blk.1.ffn_up_exps.weight";
  const auto shape = [=](std::vector<uint64_t> dims) {  // of the same size, or the data do not fit
    return [=](GgufWriter& w) { w.Tensor(up).dims = dims; };
  };
  return {
      {"E8_experts_missing", [=](auto& w) { w.RemoveTensor(up); }, kDoesNotFit,
       "tensor blk.1.ffn_up.0.weight: must be given"},
      {"E8_half_the_experts", shape({64, 64, 2}), kDoesNotFit,
       "must be of 3 dimensions, the first 4; got 3, the first 2"},
      {"E8_experts_turned", shape({32, 64, 4}), kDoesNotFit, "tensor blk.1.ffn_up.0.weight"},
      {"E8_experts_flat", shape({64, 128}), kDoesNotFit, "must be of 3 dimensions, the first 4"},
      {"E8_experts_of_none",
       [](auto& w) {
         w.RemoveTensor("blk.0.ffn_gate_inp.weight");
         w.RemoveTensor("blk.1.ffn_gate_inp.weight");
       },
       kDoesNotFit, "must be of 3 dimensions, the first 0"},
      {"E8_router_missing", [](auto& w) { w.RemoveTensor("blk.1.ffn_gate_inp.weight"); },
       kDoesNotFit, "tensor blk.1.ffn_gate.0.weight"},
      {"E8_router_of_8",
       [](auto& w) {
         w.RemoveTensor("blk.0.ffn_gate_inp.weight");
         w.AddFloats("blk.0.ffn_gate_inp.weight", {8, 64});
       },
       kDoesNotFit, "tensor blk.0.ffn_gate_inp.weight: must be [4, 64]; got [8, 64]"},
      {"E8_expert_4_of_4",
       [](auto& w) {
         w.AddFloats("blk.0.ffn_up.4.weight", {32, 64});
       },
       kDoesNotFit, "tensor blk.0.ffn_up.4.weight: the architecture has no such tensor"},
      {"E8_expert_together_and_alone",
       [](auto& w) {
         w.AddFloats("blk.0.ffn_up.3.weight", {32, 64});
       },
       kDoesNotFit, "tensor blk.0.ffn_up.3.weight: tensors must be unique"},
      {"E8_expert_01",
       [](auto& w) {
         w.AddFloats("blk.0.ffn_up.01.weight", {32, 64});
       },
       kDoesNotFit, "the architecture has no such tensor"},
      {"E8_expert_bias", [](auto& w) { w.AddFloats("blk.0.ffn_up.1.bias", {32}); }, kDoesNotFit,
       "the architecture has no such tensor"},
      {"E8_dense_beside",
       [](auto& w) {
         w.AddFloats("blk.0.ffn_up.weight", {96, 64});
       },
       kDoesNotFit, "tensor blk.0.ffn_up.weight: the architecture has no such tensor"},
  };
}

INSTANTIATE_TEST_SUITE_P(Metadata, GgufMixtureLie, testing::ValuesIn(MetadataLies()), LieName);
INSTANTIATE_TEST_SUITE_P(Tensor, GgufMixtureLie, testing::ValuesIn(TensorLies()), LieName);

TEST(GgufMixture, OnlyWhereTheArchitectureHasIt) {
  TinyGgufOptions options;
  options.architecture = "gemma3";
  GgufWriter writer = MakeTinyGguf(options);
  writer.SetU32("gemma3.expert_count", 4);
  const std::string file = writer.Build();
  EXPECT_EQ(ReadGgufModel(file).status().code(), kNotServed);
}

}  // namespace
}  // namespace pregate
