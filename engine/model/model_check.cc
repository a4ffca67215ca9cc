// The tensors that a configuration asks for.
#include <charconv>
#include <optional>

#include "absl/container/flat_hash_set.h"
#include "engine/model/file_error.h"
#include "engine/model/model_contents.h"

namespace pregate {
namespace {

struct TensorRule {
  std::string_view name;  // without "blk.i." for those of a layer
  int64_t rows;           // 1: a vector
  int64_t cols;
  bool required;
};

std::vector<TensorRule> GlobalRules(const ModelConfig& c) {
  const auto rotated = static_cast<int64_t>(c.inv_freq.size());
  return {
      {"token_embd.weight", c.vocab_size, c.hidden_size, true},
      {"output_norm.weight", 1, c.hidden_size, true},
      {"output.weight", c.vocab_size, c.hidden_size, !c.tied_embeddings},
      {"rope_freqs.weight", 1, rotated, false},
  };
}

std::vector<TensorRule> LayerRules(const ModelConfig& c) {
  const int64_t hidden = c.hidden_size;
  const int64_t q = static_cast<int64_t>(c.num_heads) * c.head_dim;
  const int64_t kv = static_cast<int64_t>(c.num_kv_heads) * c.head_dim;
  const bool biased = c.architecture == "qwen2";
  const bool sandwich = c.architecture == "gemma3";
  const bool head_norms = sandwich || c.architecture == "qwen3";
  std::vector<TensorRule> rules = {
      {"attn_norm.weight", 1, hidden, true},
      {"attn_q.weight", q, hidden, true},
      {"attn_q.bias", 1, q, biased},
      {"attn_k.weight", kv, hidden, true},
      {"attn_k.bias", 1, kv, biased},
      {"attn_v.weight", kv, hidden, true},
      {"attn_v.bias", 1, kv, biased},
      {"attn_output.weight", hidden, q, true},
      {"attn_output.bias", 1, hidden, false},
      {"ffn_norm.weight", 1, hidden, true},
      {"ffn_gate.weight", c.ffn_size, hidden, true},
      {"ffn_gate.bias", 1, c.ffn_size, false},
      {"ffn_up.weight", c.ffn_size, hidden, true},
      {"ffn_up.bias", 1, c.ffn_size, false},
      {"ffn_down.weight", hidden, c.ffn_size, true},
      {"ffn_down.bias", 1, hidden, false},
  };
  if (head_norms) {
    rules.push_back({"attn_q_norm.weight", 1, c.head_dim, true});
    rules.push_back({"attn_k_norm.weight", 1, c.head_dim, true});
  }
  if (sandwich) {
    rules.push_back({"post_attention_norm.weight", 1, hidden, true});
    rules.push_back({"post_ffw_norm.weight", 1, hidden, true});
  }
  return rules;
}

// The layer and the rest of "blk.12.attn_q.weight"; nullopt for any other name.
struct LayerName {
  int64_t layer;
  std::string_view rest;
};
std::optional<LayerName> SplitLayerName(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (name.substr(0, kPrefix.size()) != kPrefix) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int64_t layer = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  const size_t digits = end - name.data();
  if (error != std::errc() || digits >= name.size() || name[digits] != '.') return std::nullopt;
  return LayerName{layer, name.substr(digits + 1)};
}

std::string DescribeShape(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t dim : shape) absl::StrAppend(&text, text.empty() ? "[" : ", ", dim);
  return text + "]";
}

// A vector may be one row of a matrix; a matrix must have two dimensions.
bool HasShape(const TensorInfo& tensor, const TensorRule& rule) {
  const bool vector = tensor.shape.size() == 1 && rule.rows == 1 && tensor.shape[0] == rule.cols;
  return vector ||
         (tensor.shape.size() == 2 && tensor.shape[0] == rule.rows && tensor.shape[1] == rule.cols);
}

absl::Status CheckTensor(const TensorInfo& tensor, int64_t num_layers,
                         const std::vector<TensorRule>& globals,
                         const std::vector<TensorRule>& layers) {
  const std::optional<LayerName> split = SplitLayerName(tensor.name);
  const bool in_layer = split && split->layer >= 0 && split->layer < num_layers;
  const std::string_view name = in_layer ? split->rest : tensor.name;
  const std::string field = absl::StrCat("tensor ", absl::CHexEscape(tensor.name));
  for (const TensorRule& rule : in_layer ? layers : globals) {
    if (rule.name != name) continue;
    if (HasShape(tensor, rule)) return absl::OkStatus();
    return DoesNotFit(field, absl::StrCat("must be [", rule.rows, ", ", rule.cols, "]"),
                      DescribeShape(tensor.shape));
  }
  return DoesNotFit(field, "the architecture has no such tensor", DescribeShape(tensor.shape));
}

}  // namespace

absl::Status CheckModel(const ModelContents& contents) {
  if (absl::Status status = ValidateModelConfig(contents.config); !status.ok()) return status;
  const std::vector<TensorRule> globals = GlobalRules(contents.config);
  const std::vector<TensorRule> layers = LayerRules(contents.config);
  absl::flat_hash_set<std::string_view> present;
  for (const TensorInfo& tensor : contents.tensors) {
    if (absl::Status status = CheckTensor(tensor, contents.config.num_layers, globals, layers);
        !status.ok()) {
      return status;
    }
    present.insert(tensor.name);
  }
  const auto require = [&](const TensorRule& rule, const std::string& name) -> absl::Status {
    if (!rule.required || present.contains(name)) return absl::OkStatus();
    return DoesNotFit(absl::StrCat("tensor ", name), "must be given", "no such tensor");
  };
  for (const TensorRule& rule : globals) {
    if (absl::Status s = require(rule, std::string(rule.name)); !s.ok()) return s;
  }
  for (int32_t layer = 0; layer < contents.config.num_layers; ++layer) {
    for (const TensorRule& rule : layers) {
      const std::string name = absl::StrCat("blk.", layer, ".", ToAbsl(rule.name));
      if (absl::Status s = require(rule, name); !s.ok()) return s;
    }
  }
  return absl::OkStatus();
}

}  // namespace pregate
