#include "engine/model/model_config.h"

#include <cmath>
#include <initializer_list>

#include "engine/model/file_error.h"
#include "engine/model/model_limits.h"

namespace pregate {
namespace {

struct IntegerRule {
  std::string_view field;
  int64_t value;
  int64_t min;
  int64_t max;
};

struct FloatRule {
  std::string_view field;
  double value;
  double min;  // inclusive
  double max;  // inclusive
};

absl::Status CheckIntegers(std::initializer_list<IntegerRule> rules) {
  for (const IntegerRule& rule : rules) {
    if (rule.value < rule.min || rule.value > rule.max) {
      return Malformed(rule.field, absl::StrCat("must be in [", rule.min, ", ", rule.max, "]"),
                       absl::StrCat(rule.value));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFloats(std::initializer_list<FloatRule> rules) {
  for (const FloatRule& rule : rules) {
    if (!(rule.value >= rule.min && rule.value <= rule.max)) {  // negated: refuses NaN
      return Malformed(rule.field, absl::StrCat("must be in [", rule.min, ", ", rule.max, "]"),
                       absl::StrCat(rule.value));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSizes(const ModelConfig& c) {
  return CheckIntegers({
      {"num_layers", c.num_layers, 1, kMaxLayers},
      {"hidden_size", c.hidden_size, 1, kMaxHiddenSize},
      {"ffn_size", c.ffn_size, 1, kMaxFfnSize},
      {"num_heads", c.num_heads, 1, kMaxHeads},
      {"num_kv_heads", c.num_kv_heads, 1, kMaxHeads},
      {"head_dim", c.head_dim, 2, kMaxHeadDim},
      {"vocab_size", c.vocab_size, 1, kMaxVocab},
      {"context_length", c.context_length, 1, kMaxContext},
      {"sliding_window", c.sliding_window, 0, kMaxContext},
  });
}

absl::Status CheckScales(const ModelConfig& c) {
  return CheckFloats({
      {"rms_norm_eps", c.rms_norm_eps, 1e-30, 1.0},
      {"norm_weight_offset", c.norm_weight_offset, 0.0, 1.0},
      {"embedding_scale", c.embedding_scale, 1e-6, 1e6},
      {"attention_scale", c.attention_scale, 1e-6, 1e3},
      {"attention_soft_cap", c.attention_soft_cap, 0.0, 1e6},
      {"final_logit_soft_cap", c.final_logit_soft_cap, 0.0, 1e6},
      {"rope_magnitude", c.rope_magnitude, 1e-3, 1e3},
  });
}

absl::Status CheckFrequencies(std::string_view field, const std::vector<float>& inv_freq,
                              int32_t head_dim) {
  if (inv_freq.empty() || inv_freq.size() > static_cast<size_t>(head_dim / 2)) {
    return Malformed(field, absl::StrCat("must rotate 2 to ", head_dim, " dimensions of a head"),
                     absl::StrCat(2 * inv_freq.size()));
  }
  for (const float freq : inv_freq) {
    if (!(freq > 0.0f && freq <= 1e6f)) {
      return Malformed(field, "must be in (0, 1e6]", absl::StrCat(freq));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckMixture(const ModelConfig& c) {
  const MixtureConfig& m = c.mixture;
  if (m.num_experts.empty()) return absl::OkStatus();
  if (m.num_experts.size() != static_cast<size_t>(c.num_layers)) {
    return Malformed("num_experts", absl::StrCat("must have ", c.num_layers, " entries"),
                     absl::StrCat(m.num_experts.size()));
  }
  if (absl::Status status = CheckIntegers({
          {"experts_per_token", m.gate.k, 1, kMaxExperts},
          {"expert_ffn_size", m.expert_ffn_size, 1, kMaxFfnSize},
          {"shared_ffn_size", m.shared_ffn_size, 0, kMaxFfnSize},
      });
      !status.ok()) {
    return status;
  }
  for (const int32_t experts : m.num_experts) {
    if (experts == 0) continue;
    if (experts < m.gate.k || experts > kMaxExperts) {
      return Malformed(
          "num_experts",
          absl::StrCat("must be in [experts_per_token ", m.gate.k, ", ", kMaxExperts, "]"),
          absl::StrCat(experts));
    }
  }
  return CheckFloats({{"expert_weights_scale", m.gate.scale, 1e-6, 1e6}});
}

absl::Status CheckEncoder(const ModelConfig& c) {
  const EncoderConfig& e = c.encoder;
  if (absl::Status status = CheckIntegers({
          {"num_positions", e.num_positions, 1, kMaxContext},
          {"first_position", e.first_position, 0, e.num_positions - 1},
          {"context_length", c.context_length, 1, e.num_positions - e.first_position},
          {"num_token_types", e.num_token_types, 1, kMaxVocab},
          {"max_length", e.max_length, 0, c.context_length},
      });
      !status.ok()) {
    return status;
  }
  return CheckFloats({{"layer_norm_eps", e.layer_norm_eps, 1e-30, 1.0}});
}

}  // namespace

absl::Status ValidateModelConfig(const ModelConfig& config) {
  for (const absl::Status& status :
       {CheckSizes(config), CheckScales(config), CheckMixture(config)}) {
    if (!status.ok()) return status;
  }
  if (config.encoder.present) return CheckEncoder(config);
  if (config.num_heads % config.num_kv_heads != 0) {
    return Malformed("num_kv_heads", absl::StrCat("must divide num_heads ", config.num_heads),
                     absl::StrCat(config.num_kv_heads));
  }
  if (config.head_dim % 2 != 0) {
    return Malformed("head_dim", "must be even", absl::StrCat(config.head_dim));
  }
  if (absl::Status status = CheckFrequencies("inv_freq", config.inv_freq, config.head_dim);
      !status.ok()) {
    return status;
  }
  if (!config.local_inv_freq.empty()) {
    if (absl::Status status =
            CheckFrequencies("local_inv_freq", config.local_inv_freq, config.head_dim);
        !status.ok()) {
      return status;
    }
    if (config.local_inv_freq.size() != config.inv_freq.size()) {
      return Malformed("local_inv_freq", "must rotate as many dimensions as inv_freq",
                       absl::StrCat(2 * config.local_inv_freq.size()));
    }
  }
  if (config.layer_is_local.empty()) return absl::OkStatus();
  if (config.layer_is_local.size() != static_cast<size_t>(config.num_layers)) {
    return Malformed("layer_is_local", absl::StrCat("must have ", config.num_layers, " entries"),
                     absl::StrCat(config.layer_is_local.size()));
  }
  if (config.sliding_window == 0) {
    return Malformed("sliding_window", "must be positive when layers are local", "0");
  }
  return absl::OkStatus();
}

}  // namespace pregate
