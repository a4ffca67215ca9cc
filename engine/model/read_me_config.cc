#include "engine/model/read_me_config.h"

#include <string>

#include "engine/model/file_error.h"
#include "engine/model/json_fields.h"
#include "engine/model/model_limits.h"

namespace pregate {
namespace {

constexpr int64_t kMaxRouterLayers = 64;

void ReadActivation(JsonFields& fields, ReadMeConfig& config) {
  const std::string name = fields.OptionalString("hidden_act_predictor").value_or("silu");
  if (name == "silu" || name == "swish") {
    config.activation = Activation::kSilu;
  } else if (name == "relu") {
    config.activation = Activation::kRelu;
  } else if (name == "gelu_pytorch_tanh" || name == "gelu_new") {
    config.activation = Activation::kGeluTanh;
  } else {
    fields.Fail(NotServed(fields.FullName("hidden_act_predictor"),
                          "must be 'silu', 'relu', 'gelu_new' or 'gelu_pytorch_tanh'",
                          Quoted(name)));
  }
}

void CheckShape(JsonFields& fields, const ReadMeConfig& config, int64_t inter_dim) {
  if (!fields.status().ok()) return;
  // The residual connection adds the two.
  if (inter_dim != config.embedding_dim) {
    fields.Fail(Malformed(fields.FullName("inter_dim"),
                          absl::StrCat("must be as embedding_dim ", config.embedding_dim),
                          absl::StrCat(inter_dim)));
  }
  const bool divides = config.embedding_dim % config.num_heads == 0;
  if (!divides || config.head_dim() % 2 != 0 || config.head_dim() > kMaxHeadDim) {
    fields.Fail(Malformed(fields.FullName("n_head"),
                          absl::StrCat("must divide embedding_dim ", config.embedding_dim,
                                       " into even heads of at most ", kMaxHeadDim),
                          absl::StrCat(config.num_heads)));
  }
  if (!(config.normalizer >= 1e-3f && config.normalizer <= 1e6f)) {
    fields.Fail(Malformed(fields.FullName("normalizer"), "must be in [1e-3, 1e6]",
                          absl::StrCat(config.normalizer)));
  }
}

}  // namespace

ReadMeConfig ReadReadMeConfig(JsonFields& fields) {
  ReadMeConfig config;
  if (!fields.OptionalBool("add_cluster_predictor").value_or(false)) return config;
  if (fields.OptionalBool("train_predictor").value_or(false)) {
    fields.Fail(NotServed(fields.FullName("train_predictor"), "must be false to serve", "true"));
  }
  config.num_experts = static_cast<int32_t>(fields.Integer("N_cluster", 2, kMaxReadMeExperts));
  config.embedding_dim = static_cast<int32_t>(fields.Integer("embedding_dim", 2, kMaxHiddenSize));
  const int64_t inter_dim = fields.Integer("inter_dim", 2, kMaxHiddenSize);
  config.num_layers = static_cast<int32_t>(fields.Integer("n_layer", 1, kMaxRouterLayers));
  config.num_heads = static_cast<int32_t>(fields.Integer("n_head", 1, kMaxHeads));
  config.normalizer = static_cast<float>(fields.OptionalFloat("normalizer").value_or(1.0));
  config.attends = !fields.OptionalBool("nonautoregressive").value_or(false);
  config.frozen_embedding = fields.OptionalBool("frozen_embedding").value_or(false);
  ReadActivation(fields, config);
  CheckShape(fields, config, inter_dim);
  return config;
}

}  // namespace pregate
