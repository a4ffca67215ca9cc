// The tensors that a configuration asks for.
#include <algorithm>
#include <charconv>
#include <optional>

#include "absl/container/flat_hash_set.h"
#include "engine/model/f8_weights.h"
#include "engine/model/file_error.h"
#include "engine/model/model_contents.h"
#include "engine/model/read_me_tensors.h"

namespace pregate {
namespace {

struct TensorRule {
  std::string_view
      name;      // without "blk.i." for those of a layer, without ".e.weight" for an expert's
  int64_t rows;  // 1: a vector
  int64_t cols;
  bool required;
};

// Of an encoder: tables, the norm behind them and, of a cross-encoder, the head.
std::vector<TensorRule> EncoderGlobalRules(const ModelConfig& c) {
  const int64_t hidden = c.hidden_size;
  const EncoderConfig& e = c.encoder;
  std::vector<TensorRule> rules = {
      {"token_embd.weight", c.vocab_size, hidden, true},
      {"position_embd.weight", e.num_positions, hidden, true},
      {"token_types.weight", e.num_token_types, hidden, true},
      {"token_embd_norm.weight", 1, hidden, true},
      {"token_embd_norm.bias", 1, hidden, true},
  };
  if (e.scores) {
    rules.push_back({"cls.weight", hidden, hidden, true});
    rules.push_back({"cls.bias", 1, hidden, true});
    rules.push_back({"cls.output.weight", 1, hidden, true});
    rules.push_back({"cls.output.bias", 1, 1, true});
  }
  return rules;
}

std::vector<TensorRule> EncoderLayerRules(const ModelConfig& c) {
  const int64_t hidden = c.hidden_size, ffn = c.ffn_size;
  return {
      {"attn_q.weight", hidden, hidden, true},       {"attn_q.bias", 1, hidden, true},
      {"attn_k.weight", hidden, hidden, true},       {"attn_k.bias", 1, hidden, true},
      {"attn_v.weight", hidden, hidden, true},       {"attn_v.bias", 1, hidden, true},
      {"attn_output.weight", hidden, hidden, true},  {"attn_output.bias", 1, hidden, true},
      {"attn_output_norm.weight", 1, hidden, true},  {"attn_output_norm.bias", 1, hidden, true},
      {"ffn_up.weight", ffn, hidden, true},          {"ffn_up.bias", 1, ffn, true},
      {"ffn_down.weight", hidden, ffn, true},        {"ffn_down.bias", 1, hidden, true},
      {"layer_output_norm.weight", 1, hidden, true}, {"layer_output_norm.bias", 1, hidden, true},
  };
}

std::vector<TensorRule> GlobalRules(const ModelConfig& c) {
  if (c.encoder.present) return EncoderGlobalRules(c);
  const auto rotated = static_cast<int64_t>(c.inv_freq.size());
  return {
      {"token_embd.weight", c.vocab_size, c.hidden_size, true},
      {"output_norm.weight", 1, c.hidden_size, true},
      {"output.weight", c.vocab_size, c.hidden_size, !c.tied_embeddings},
      {"rope_freqs.weight", 1, rotated, false},
  };
}

// The FFN of a layer without a gate.
std::vector<TensorRule> DenseRules(const ModelConfig& c) {
  const int64_t hidden = c.hidden_size;
  return {
      {"ffn_gate.weight", c.ffn_size, hidden, true}, {"ffn_gate.bias", 1, c.ffn_size, false},
      {"ffn_up.weight", c.ffn_size, hidden, true},   {"ffn_up.bias", 1, c.ffn_size, false},
      {"ffn_down.weight", hidden, c.ffn_size, true}, {"ffn_down.bias", 1, hidden, false},
  };
}

// The gate of a layer and its shared expert; the experts themselves are ExpertRules.
std::vector<TensorRule> MixtureRules(const ModelConfig& c, int32_t experts) {
  const int64_t hidden = c.hidden_size, shared = c.mixture.shared_ffn_size;
  std::vector<TensorRule> rules = {{"ffn_gate_inp.weight", experts, hidden, true}};
  if (shared == 0) return rules;
  rules.push_back({"ffn_gate_shexp.weight", shared, hidden, true});
  rules.push_back({"ffn_up_shexp.weight", shared, hidden, true});
  rules.push_back({"ffn_down_shexp.weight", hidden, shared, true});
  rules.push_back({"ffn_gate_inp_shexp.weight", 1, hidden, false});
  return rules;
}

// The matrices of one expert.
std::vector<TensorRule> ExpertRules(const ModelConfig& c) {
  const int64_t hidden = c.hidden_size, ffn = c.mixture.expert_ffn_size;
  return {
      {"ffn_gate", ffn, hidden, true},
      {"ffn_up", ffn, hidden, true},
      {"ffn_down", hidden, ffn, true},
  };
}

std::vector<TensorRule> LayerRules(const ModelConfig& c, int32_t experts) {
  if (c.encoder.present) return EncoderLayerRules(c);
  const int64_t hidden = c.hidden_size;
  const int64_t q = static_cast<int64_t>(c.num_heads) * c.head_dim;
  const int64_t kv = static_cast<int64_t>(c.num_kv_heads) * c.head_dim;
  const bool biased = c.architecture == "qwen2";
  const bool sandwich = c.architecture == "gemma3";
  const bool qk_norms = sandwich || c.architecture.starts_with("qwen3") || !c.norms_by_head;
  std::vector<TensorRule> rules = {
      {"attn_norm.weight", 1, hidden, true},  {"attn_q.weight", q, hidden, true},
      {"attn_q.bias", 1, q, biased},          {"attn_k.weight", kv, hidden, true},
      {"attn_k.bias", 1, kv, biased},         {"attn_v.weight", kv, hidden, true},
      {"attn_v.bias", 1, kv, biased},         {"attn_output.weight", hidden, q, true},
      {"attn_output.bias", 1, hidden, false}, {"ffn_norm.weight", 1, hidden, true},
  };
  // Experts of a Read-ME model that are no masks are all that a layer has: see CheckReadMe.
  const bool separate = c.read_me.num_experts > 0 && !c.read_me.masked;
  const std::vector<TensorRule> ffn = separate       ? std::vector<TensorRule>()
                                      : experts == 0 ? DenseRules(c)
                                                     : MixtureRules(c, experts);
  rules.insert(rules.end(), ffn.begin(), ffn.end());
  if (qk_norms) {
    rules.push_back({"attn_q_norm.weight", 1, c.norms_by_head ? c.head_dim : q, true});
    rules.push_back({"attn_k_norm.weight", 1, c.norms_by_head ? c.head_dim : kv, true});
  }
  if (sandwich) {
    rules.push_back({"post_attention_norm.weight", 1, hidden, true});
    rules.push_back({"post_ffw_norm.weight", 1, hidden, true});
  }
  return rules;
}

// The number and what follows the point behind it in "12.rest"; nullopt for any other text.
struct Numbered {
  int64_t number;
  std::string_view rest;
};
std::optional<Numbered> SplitNumber(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const size_t digits = end - text.data();
  const bool unusual = text.substr(0, 1) == "-" || (text.substr(0, 1) == "0" && digits > 1);
  if (error != std::errc() || unusual || digits >= text.size() || text[digits] != '.') {
    return std::nullopt;
  }
  return Numbered{number, text.substr(digits + 1)};
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

class Checker {
 public:
  explicit Checker(const ModelConfig& config)
      : config_(config), globals_(GlobalRules(config)), expert_(ExpertRules(config)) {
    for (int layer = 0; layer < config.num_layers; ++layer) {
      layers_.push_back(LayerRules(config, config.mixture.NumExperts(layer)));
    }
  }

  // The tensor is one that the architecture has, and has its shape.
  absl::Status Check(const TensorInfo& tensor) {
    const std::string field = absl::StrCat("tensor ", absl::CHexEscape(tensor.name));
    std::string_view name = tensor.name;
    const bool scales = name.ends_with(kF8ScaleSuffix);
    if (scales) name.remove_suffix(kF8ScaleSuffix.size());
    const TensorRule* rule = FindRule(name);
    if (rule == nullptr) {
      return DoesNotFit(field, "the architecture has no such tensor", DescribeShape(tensor.shape));
    }
    if (absl::Status status = CheckF8(tensor, *rule, field, scales); !status.ok()) return status;
    if (!scales && !HasShape(tensor, *rule)) {
      return DoesNotFit(field, absl::StrCat("must be [", rule->rows, ", ", rule->cols, "]"),
                        DescribeShape(tensor.shape));
    }
    // A file may hold the experts of a layer both together and one by one.
    if (!present_.insert(tensor.name).second) {
      return DoesNotFit(field, "tensors must be unique", DescribeShape(tensor.shape));
    }
    return absl::OkStatus();
  }

  // Every tensor that must be there has been checked.
  absl::Status CheckComplete() const {
    absl::Status status = CheckScales();
    if (status.ok()) status = CheckPresent("", globals_, "");
    for (int layer = 0; layer < config_.num_layers && status.ok(); ++layer) {
      const std::string prefix = absl::StrCat("blk.", layer, ".");
      status = CheckPresent(prefix, layers_[static_cast<size_t>(layer)], "");
      for (int e = 0; e < config_.mixture.NumExperts(layer) && status.ok(); ++e) {
        status = CheckPresent(prefix, expert_, absl::StrCat(".", e, ".weight"));
      }
    }
    return status;
  }

 private:
  // A tensor of kF8E4M3, or what are scales by its name.
  absl::Status CheckF8(const TensorInfo& tensor, const TensorRule& rule, const std::string& field,
                       bool scales) {
    const bool elements = tensor.dtype == DType::kF8E4M3;
    if (!elements && !scales) return absl::OkStatus();
    const std::string type(GetDTypeInfo(tensor.dtype).name);
    if (config_.encoder.present || config_.read_me.num_experts > 0) {
      return NotServed(field, "encoders and Read-ME models have no weights of 8-bit floats", type);
    }
    if (scales) {
      if (elements) return NotServed(field, "scales must be F32, F16 or BF16", type);
      scales_.insert(tensor.name);
      if (AreF8Scales(tensor, rule.rows, rule.cols)) return absl::OkStatus();
      return DoesNotFit(
          field,
          absl::StrCat("must be one number, [", rule.rows, ", 1], or one for each ", kF8BlockSize,
                       " x ", kF8BlockSize, " elements of [", rule.rows, ", ", rule.cols, "]"),
          DescribeShape(tensor.shape));
    }
    if (rule.cols % 32 != 0 || !tensor.name.ends_with(".weight") || tensor.shape.size() != 2) {
      return NotServed(field, "8-bit floats must be a matrix with a multiple of 32 columns",
                       DescribeShape(tensor.shape));
    }
    f8_.insert(tensor.name);
    return absl::OkStatus();
  }

  // Weights of 8-bit floats have scales, and others have none.
  absl::Status CheckScales() const {
    for (const std::string_view name : f8_) {
      const std::string scales = absl::StrCat(ToAbsl(name), ToAbsl(kF8ScaleSuffix));
      if (!scales_.contains(scales)) {
        return DoesNotFit("tensor " + scales, "must be given", "no such tensor");
      }
    }
    if (scales_.size() == f8_.size()) return absl::OkStatus();
    return DoesNotFit("tensors", absl::StrCat("must have ", f8_.size(), " scales of F8_E4M3"),
                      absl::StrCat(scales_.size()));
  }

  const TensorRule* FindRule(std::string_view name) const {
    constexpr std::string_view kPrefix = "blk.";
    if (!name.starts_with(kPrefix)) return FindIn(globals_, name);
    const std::optional<Numbered> layer = SplitNumber(name.substr(kPrefix.size()));
    if (!layer || layer->number >= config_.num_layers) return nullptr;
    const auto index = static_cast<size_t>(layer->number);
    const size_t dot = layer->rest.find('.');
    if (dot == std::string_view::npos) return nullptr;
    const std::optional<Numbered> expert = SplitNumber(layer->rest.substr(dot + 1));
    if (!expert) return FindIn(layers_[index], layer->rest);
    const bool exists = expert->number < config_.mixture.NumExperts(static_cast<int>(index)) &&
                        expert->rest == "weight";
    return exists ? FindIn(expert_, layer->rest.substr(0, dot)) : nullptr;
  }

  static const TensorRule* FindIn(const std::vector<TensorRule>& rules, std::string_view name) {
    const auto found = std::find_if(rules.begin(), rules.end(),
                                    [&](const TensorRule& rule) { return rule.name == name; });
    return found == rules.end() ? nullptr : &*found;
  }

  absl::Status CheckPresent(std::string_view prefix, const std::vector<TensorRule>& rules,
                            std::string_view suffix) const {
    for (const TensorRule& rule : rules) {
      const std::string name = absl::StrCat(ToAbsl(prefix), ToAbsl(rule.name), ToAbsl(suffix));
      if (!rule.required || present_.contains(name)) continue;
      return DoesNotFit(absl::StrCat("tensor ", name), "must be given", "no such tensor");
    }
    return absl::OkStatus();
  }

  const ModelConfig& config_;
  const std::vector<TensorRule> globals_;
  const std::vector<TensorRule> expert_;
  std::vector<std::vector<TensorRule>> layers_;
  absl::flat_hash_set<std::string_view> present_;
  absl::flat_hash_set<std::string_view> f8_, scales_;  // tensors of kF8E4M3, and of scales
};

}  // namespace

absl::Status CheckModel(const ModelContents& contents) {
  if (absl::Status status = ValidateModelConfig(contents.config); !status.ok()) return status;
  const bool read_me = contents.config.read_me.num_experts > 0;
  if (read_me) {
    absl::Status status = CheckReadMe(contents.config, contents.tensors, contents.neuron_owners);
    if (!status.ok()) return status;
  }
  Checker checker(contents.config);
  for (const TensorInfo& tensor : contents.tensors) {
    if (read_me && IsReadMeTensor(tensor.name)) continue;
    if (absl::Status status = checker.Check(tensor); !status.ok()) return status;
  }
  return checker.CheckComplete();
}

}  // namespace pregate
