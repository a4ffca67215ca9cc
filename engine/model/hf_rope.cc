#include "engine/model/hf_rope.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/model/file_error.h"
#include "engine/model/model_limits.h"
#include "engine/model/rope_scaling.h"

namespace pregate {
namespace {

// YaRN's factor on sine and cosine: stated, or from the two "mscale" numbers of DeepSeek's files.
double YarnMagnitude(JsonFields& scaling, double factor) {
  if (const auto stated = scaling.OptionalFloat("attention_factor")) return *stated;
  const double mscale = scaling.OptionalFloat("mscale").value_or(0.0);
  const double mscale_all = scaling.OptionalFloat("mscale_all_dim").value_or(0.0);
  if (mscale == 0.0 || mscale_all == 0.0) return 0.0;  // the paper's own
  const double log_factor = 0.1 * std::log(std::max(factor, 1.0));
  return (1.0 + mscale * log_factor) / (1.0 + mscale_all * log_factor);
}

// `scaling` is the member rope_scaling (transformers 4) or rope_parameters (5).
RopeScaling ReadScaling(JsonFields& scaling, int32_t context_length) {
  RopeScaling result;
  const auto old_name = scaling.OptionalString("type");
  const std::string type =
      scaling.OptionalString("rope_type").value_or(old_name.value_or("default"));
  if (type == "default") return result;
  if (type == "linear") {
    result.kind = RopeScaling::Kind::kLinear;
  } else if (type == "llama3") {
    result.kind = RopeScaling::Kind::kLlama3;
    result.low_freq_factor = scaling.Float("low_freq_factor");
    result.high_freq_factor = scaling.Float("high_freq_factor");
    result.original_context = scaling.Float("original_max_position_embeddings");
  } else if (type == "yarn") {
    result.kind = RopeScaling::Kind::kYarn;
    result.original_context =
        scaling.OptionalFloat("original_max_position_embeddings").value_or(context_length);
    result.beta_fast = scaling.OptionalFloat("beta_fast").value_or(32.0);
    result.beta_slow = scaling.OptionalFloat("beta_slow").value_or(1.0);
    result.truncate = scaling.OptionalBool("truncate").value_or(true);
  } else {
    scaling.Fail(NotServed(scaling.FullName("rope_type"),
                           "must be 'default', 'linear', 'llama3' or 'yarn'", Quoted(type)));
    return result;
  }
  result.factor = scaling.Float("factor");
  if (result.kind == RopeScaling::Kind::kYarn) {
    result.magnitude = YarnMagnitude(scaling, result.factor);
  }
  return result;
}

struct RopeSource {
  std::string_view member;        // where the dictionary is, for messages
  const nlohmann::json* scaling;  // nullptr: no scaling
  double theta;                   // when the dictionary does not say
};

// The frequencies that one dictionary describes; errors go to `fields`.
RopeFrequencies ReadFrequencies(JsonFields& fields, const RopeSource& source,
                                const ModelConfig& config) {
  const nlohmann::json empty = nlohmann::json::object();
  JsonFields scaling(source.scaling != nullptr ? source.scaling : &empty,
                     absl::StrCat(fields.FullName(source.member), "."));
  const double theta = scaling.OptionalFloat("rope_theta").value_or(source.theta);
  const double rotated_share =
      scaling.OptionalFloat("partial_rotary_factor")
          .value_or(fields.OptionalFloat("partial_rotary_factor").value_or(1.0));
  const RopeScaling rule = ReadScaling(scaling, config.context_length);
  const double rotated = config.head_dim * rotated_share;
  if (!(rotated >= 2.0 && rotated <= config.head_dim) || static_cast<int>(rotated) % 2 != 0) {
    scaling.Fail(Malformed(scaling.FullName("partial_rotary_factor"),
                           absl::StrCat("must rotate an even part of head_dim ", config.head_dim),
                           absl::StrCat(rotated_share)));
  }
  fields.Fail(scaling.status());
  if (!fields.status().ok()) return {};
  auto frequencies =
      MakeRopeFrequencies(fields.FullName(source.member), theta, static_cast<int>(rotated), rule);
  if (frequencies.ok()) return *std::move(frequencies);
  fields.Fail(frequencies.status());
  return {};
}

}  // namespace

void ReadHuggingFaceRope(JsonFields& fields, double default_theta, ModelConfig& config) {
  const nlohmann::json* new_style = fields.OptionalObject("rope_parameters");
  const nlohmann::json* old_style = fields.OptionalObject("rope_scaling");
  const double theta = fields.OptionalFloat("rope_theta").value_or(default_theta);
  const bool own_local_table = config.architecture == "gemma3";
  RopeSource all{new_style != nullptr ? "rope_parameters" : "rope_scaling",
                 new_style != nullptr ? new_style : old_style, theta};
  // Gemma 3: local layers are not scaled and have a base of their own.
  RopeSource local{"rope_local_base_freq", nullptr,
                   fields.OptionalFloat("rope_local_base_freq").value_or(10000.0)};
  if (new_style != nullptr && new_style->contains("full_attention")) {
    JsonFields by_layer_type(new_style, fields.FullName("rope_parameters."));
    all.scaling = by_layer_type.OptionalObject("full_attention");
    local.member = "rope_parameters";
    local.scaling = by_layer_type.OptionalObject("sliding_attention");
    fields.Fail(by_layer_type.status());
  }
  RopeFrequencies frequencies = ReadFrequencies(fields, all, config);
  config.rope_theta = frequencies.theta;
  config.inv_freq = std::move(frequencies.inv_freq);
  config.rope_magnitude = frequencies.magnitude;
  if (!own_local_table) return;
  RopeFrequencies local_frequencies = ReadFrequencies(fields, local, config);
  if (fields.status().ok() && local_frequencies.magnitude != config.rope_magnitude) {
    fields.Fail(NotServed(fields.FullName("rope_parameters"),
                          "attention factors of local and global layers must be the same",
                          absl::StrCat(local_frequencies.magnitude)));
  }
  config.local_inv_freq = std::move(local_frequencies.inv_freq);
}

}  // namespace pregate
