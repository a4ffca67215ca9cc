#include "engine/model/gguf_encoder.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "engine/model/gguf_fields.h"
#include "engine/model/model_limits.h"

namespace pregate {
namespace {

// llama.cpp's numbers for `pooling_type`.
enum PoolingType : uint8_t { kNone, kMean, kCls, kLast, kRank };

void ReadPooling(GgufFields& fields, EncoderConfig& encoder) {
  const auto type = fields.OptionalInteger("pooling_type", kNone, kRank).value_or(kNone);
  encoder.scores = type == kRank;
  encoder.pooling = type == kCls ? Pooling::kCls : type == kLast ? Pooling::kLast : Pooling::kMean;
}

// Rows of a table, which must have `cols` columns.
int32_t TableRows(const GgufFile& file, std::string_view name, int64_t cols, GgufFields& fields) {
  const auto& tensors = file.tensors();
  const auto tensor = std::find_if(tensors.begin(), tensors.end(),
                                   [&](const GgufTensor& t) { return t.name == name; });
  if (tensor == tensors.end()) {
    fields.Fail(DoesNotFit(name, "must be given", "no such tensor"));
    return 0;
  }
  const bool vector = tensor->shape.size() == 1;  // a table of one row may be written so
  if (tensor->shape.size() > 2 || tensor->shape.back() != cols) {
    fields.Fail(DoesNotFit(
        name, absl::StrCat("must be a table of ", cols, " columns"),
        absl::StrCat(tensor->shape.size(), " dimensions, the last ", tensor->shape.back())));
    return 0;
  }
  const int64_t rows = vector ? 1 : tensor->shape[0];
  if (rows > kMaxVocab) {
    fields.Fail(DoesNotFit(name, absl::StrCat("must have at most ", kMaxVocab, " rows"),
                           absl::StrCat(rows)));
    return 0;
  }
  return static_cast<int32_t>(rows);
}

}  // namespace

absl::StatusOr<ModelConfig> ReadGgufEncoder(const GgufFile& file, size_t num_tokens) {
  ModelConfig config;
  config.architecture = "bert";
  config.encoder.present = true;
  config.activation = Activation::kGelu;
  GgufFields general(&file, "general.");
  config.name = std::string(general.OptionalString("name").value_or(""));
  if (!general.status().ok()) return general.status();

  GgufFields fields(&file, "bert.");
  config.num_layers = static_cast<int32_t>(fields.Integer("block_count", 1, kMaxLayers));
  config.hidden_size = static_cast<int32_t>(fields.Integer("embedding_length", 1, kMaxHiddenSize));
  config.ffn_size = static_cast<int32_t>(fields.Integer("feed_forward_length", 1, kMaxFfnSize));
  config.context_length = static_cast<int32_t>(fields.Integer("context_length", 1, kMaxContext));
  config.num_heads = static_cast<int32_t>(fields.Integer("attention.head_count", 1, kMaxHeads));
  config.encoder.layer_norm_eps = static_cast<float>(fields.Float("attention.layer_norm_epsilon"));
  if (fields.OptionalBool("attention.causal").value_or(false)) {
    fields.Fail(NotServed(fields.FullKey("attention.causal"), "must be false", "true"));
  }
  ReadPooling(fields, config.encoder);
  if (!fields.status().ok()) return fields.status();
  if (config.hidden_size % config.num_heads != 0) {
    return Malformed(fields.FullKey("attention.head_count"),
                     absl::StrCat("must divide embedding_length ", config.hidden_size),
                     absl::StrCat(config.num_heads));
  }
  config.num_kv_heads = config.num_heads;
  config.head_dim = config.hidden_size / config.num_heads;
  config.attention_scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));

  config.vocab_size = TableRows(file, "token_embd.weight", config.hidden_size, fields);
  // The converter has cut off what stands before a text's first position.
  config.encoder.num_positions =
      TableRows(file, "position_embd.weight", config.hidden_size, fields);
  config.encoder.num_token_types =
      TableRows(file, "token_types.weight", config.hidden_size, fields);
  if (!fields.status().ok()) return fields.status();
  if (config.vocab_size != static_cast<int64_t>(num_tokens)) {
    return DoesNotFit("token_embd.weight",
                      absl::StrCat("must have ", num_tokens, " rows, one for each token"),
                      absl::StrCat(config.vocab_size));
  }
  config.context_length = std::min(config.context_length, config.encoder.num_positions);
  return config;
}

}  // namespace pregate
