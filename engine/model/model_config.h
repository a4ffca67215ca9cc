// What a model is, as data: every difference between the served families that the forward pass
// must know. Filled by the file readers (GGUF metadata, Hugging Face config.json), checked once.
#ifndef PREGATE_ENGINE_MODEL_MODEL_CONFIG_H_
#define PREGATE_ENGINE_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/model/encoder_config.h"
#include "engine/model/read_me_config.h"
#include "kernels/kernels.h"

namespace pregate {

// A mixture of experts whose gate stands inside each layer (Mixtral 2401.04088, Qwen2-MoE
// 2407.10671, Qwen3-MoE 2505.09388, OLMoE 2409.02060): the gate scores every expert for a row, the
// best ones run, and their outputs are added up by their scores.
struct MixtureConfig {
  std::vector<int32_t> num_experts;  // [num_layers] routed experts; 0: a dense FFN. Empty: no gates
  int32_t expert_ffn_size = 0;       // width of a routed expert
  int32_t shared_ffn_size = 0;       // width of the expert that every row meets; 0: none
  GateParams gate;                   // experts of a row, and what becomes of their scores

  int32_t NumExperts(int layer) const {
    return num_experts.empty() ? 0 : num_experts[static_cast<size_t>(layer)];
  }
};

// Which part of a model a configuration is of, where several ranks run it together
// (model_share.h): heads and widths are then the rank's own.
struct ShardConfig {
  int32_t rank = 0;
  int32_t size = 1;
  // Rows of the head, and so columns of the logits: rank r has [head_begin[r], head_begin[r + 1]).
  std::vector<int64_t> head_begin;  // [size + 1]; empty: there is one rank
  // Whole experts are dealt out; otherwise a rank has some neurons of each.
  bool by_expert = false;

  int64_t head_rows(int64_t vocab) const {
    const auto r = static_cast<size_t>(rank);
    return head_begin.empty() ? vocab : head_begin[r + 1] - head_begin[r];
  }
  // Of the `experts` of a layer this rank has [ExpertBegin(experts, rank), ... rank + 1).
  int32_t ExpertBegin(int32_t experts, int32_t of_rank) const {
    if (!by_expert) return of_rank > rank ? experts : 0;
    return static_cast<int32_t>(int64_t{experts} * of_rank / size);
  }
};

struct ModelConfig {
  std::string architecture;  // in GGUF's words: "llama", "qwen2", "qwen3moe", "gemma3", ...
  std::string name;          // the file's own name of the model; may be empty

  int32_t num_layers = 0;
  int32_t hidden_size = 0;   // H
  int32_t ffn_size = 0;      // F, of layers without a gate
  int32_t num_heads = 0;     // query heads
  int32_t num_kv_heads = 0;  // divides num_heads
  int32_t head_dim = 0;      // 64...256; num_heads * head_dim may differ from H
  int32_t vocab_size = 0;    // width of the logits: the bound of every token id
  int32_t context_length = 0;

  float rms_norm_eps = 1e-5f;
  float norm_weight_offset = 0.0f;  // 1 for Gemma checkpoints from Hugging Face (GGUF adds it)
  Activation activation = Activation::kSilu;
  float embedding_scale = 1.0f;       // sqrt(H) for Gemma
  float attention_scale = 0.0f;       // multiplies q.k
  float attention_soft_cap = 0.0f;    // 0: none
  float final_logit_soft_cap = 0.0f;  // 0: none
  bool tied_embeddings = false;       // the head is the embedding table
  // Norms of queries and keys, where the file has them: of each head, or (OLMoE) of all together.
  bool norms_by_head = true;
  MixtureConfig mixture;
  ReadMeConfig read_me;
  ShardConfig shard;
  EncoderConfig encoder;  // if present, nothing below and no expert is

  // Rotary embedding. inv_freq[i] = frequency of pair i with every scaling rule (linear, llama3,
  // yarn, per-pair factors of the file) already applied; rope_magnitude is yarn's mscale.
  // [rotated dimensions / 2].
  RopeStyle rope_style = RopeStyle::kHalves;
  std::vector<float> inv_freq;
  float rope_magnitude = 1.0f;
  // The base before any rule, for a router whose positions are not scaled.
  double rope_theta = 1e4;
  // Layers with sliding-window attention (Gemma 3, Mistral v0.1): window in tokens and, where the
  // family says so, a rotary table of their own. Empty `layer_is_local`: no layer is local.
  int32_t sliding_window = 0;
  std::vector<uint8_t> layer_is_local;  // [num_layers] or empty
  std::vector<float> local_inv_freq;    // empty: as inv_freq

  bool IsLocal(int layer) const { return !layer_is_local.empty() && layer_is_local[layer] != 0; }
};

// INVALID_ARGUMENT "<field>: <rule>; got <value>" for the first number out of range: zero or absurd
// sizes, heads that do not divide, NaN, ... (reliability rows E9, V6).
absl::Status ValidateModelConfig(const ModelConfig& config);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_MODEL_CONFIG_H_
