// A config.json of any bytes: a typed error, or a configuration.
#include "engine/model/hf_config.h"
#include "tests/fuzz/fuzz_target.h"

namespace pregate {

std::vector<std::string> FuzzSeeds() {
  const std::string sizes =
      R"("vocab_size":64,"hidden_size":64,"intermediate_size":96,"num_hidden_layers":6,)"
      R"("num_attention_heads":4,"num_key_value_heads":2,"max_position_embeddings":512,)"
      R"("rms_norm_eps":1e-5,"tie_word_embeddings":true,"sliding_window":32)";
  return {
      "{\"model_type\":\"llama\"," + sizes +
          R"(,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,)"
          R"("high_freq_factor":4.0,"original_max_position_embeddings":8192}})",
      "{\"model_type\":\"qwen2\"," + sizes +
          R"(,"use_sliding_window":true,"max_window_layers":3,"rope_theta":1e6,)"
          R"("rope_scaling":{"type":"yarn","factor":4.0}})",
      "{\"model_type\":\"gemma3\",\"text_config\":{" + sizes +
          R"(,"rope_parameters":{"full_attention":{"rope_type":"linear","factor":8.0},)"
          R"("sliding_attention":{"rope_theta":10000.0}},"query_pre_attn_scalar":256}})",
      "{\"model_type\":\"bert\"," + sizes +
          R"(,"architectures":["BertForSequenceClassification"],"id2label":{"0":"x"},)"
          R"("type_vocab_size":2,"layer_norm_eps":1e-12,"hidden_act":"gelu","pad_token_id":0,)"
          R"("position_embedding_type":"absolute"})",
      "{\"model_type\":\"xlm-roberta\"," + sizes + R"(,"pad_token_id":1,"type_vocab_size":1})",
      "{\"model_type\":\"qwen2_moe\"," + sizes +
          R"(,"num_experts":8,"num_experts_per_tok":2,"moe_intermediate_size":32,)"
          R"("shared_expert_intermediate_size":64,"norm_topk_prob":true,"decoder_sparse_step":2,)"
          R"("mlp_only_layers":[3]})",
  };
}

}  // namespace pregate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto config = pregate::ReadHuggingFaceConfig({reinterpret_cast<const char*>(data), size});
  pregate::ExpectTyped(config.status());
  return 0;
}
