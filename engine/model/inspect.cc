#include "engine/model/inspect.h"

#include <openssl/evp.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <numeric>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/model/file_error.h"
#include "engine/model/mapped_file.h"
#include "engine/model/model_file.h"
#include "engine/model/read_me_overlay.h"

namespace pregate {
namespace {

void AddLine(std::string& out, std::string_view label, std::string_view text) {
  absl::StrAppendFormat(&out, "%-16s%s\n", ToAbsl(label), ToAbsl(text));
}

std::string Mebibytes(int64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

int64_t NumElements(const TensorInfo& tensor) {
  int64_t elements = 1;
  for (const int64_t dim : tensor.shape) elements *= dim;
  return elements;
}

std::string DescribeAttention(const ModelConfig& c) {
  std::string text = absl::StrFormat("%d heads of %d, %d of keys and values, scale %g", c.num_heads,
                                     c.head_dim, c.num_kv_heads, c.attention_scale);
  const auto local = std::count(c.layer_is_local.begin(), c.layer_is_local.end(), 1);
  if (local > 0) {
    absl::StrAppendFormat(&text, "; %d of %d layers see %d tokens back", local, c.num_layers,
                          c.sliding_window);
  }
  return text;
}

std::string DescribeMixture(const ModelConfig& c) {
  const MixtureConfig& m = c.mixture;
  const auto dense = std::count(m.num_experts.begin(), m.num_experts.end(), 0);
  const int32_t most = *std::max_element(m.num_experts.begin(), m.num_experts.end());
  std::string text = absl::StrFormat("%d of %d a token, FFN %d", m.gate.k, most, m.expert_ffn_size);
  if (m.shared_ffn_size > 0)
    absl::StrAppendFormat(&text, ", and a shared one of %d", m.shared_ffn_size);
  absl::StrAppend(&text, "; weights by ",
                  m.gate.scoring == GateParams::Scoring::kSigmoid ? "sigmoid" : "softmax",
                  m.gate.renormalize ? ", renormalised" : "");
  if (dense > 0) absl::StrAppendFormat(&text, "; %d of %d layers are dense", dense, c.num_layers);
  return text;
}

std::string DescribeRope(const ModelConfig& c) {
  return absl::StrFormat("%d dimensions, %s, frequencies %g to %g, magnitude %g",
                         2 * c.inv_freq.size(),
                         c.rope_style == RopeStyle::kHalves ? "halves" : "interleaved",
                         c.inv_freq.front(), c.inv_freq.back(), c.rope_magnitude);
}

std::string DescribeEncoder(const ModelConfig& c) {
  const EncoderConfig& e = c.encoder;
  std::string text = e.scores ? "scores pairs" : "";
  if (!e.scores) {
    absl::StrAppend(&text, "vectors by ",
                    e.pooling == Pooling::kCls    ? "the first row"
                    : e.pooling == Pooling::kLast ? "the last row"
                                                  : "the mean of rows");
  }
  absl::StrAppendFormat(&text, "; positions %d to %d, %d kinds of tokens, epsilon %g",
                        e.first_position, e.num_positions - 1, e.num_token_types, e.layer_norm_eps);
  if (e.max_length > 0) absl::StrAppendFormat(&text, "; made for %d tokens", e.max_length);
  return text;
}

std::string_view TokenizerModelName(TokenizerSpec::Model model) {
  switch (model) {
    case TokenizerSpec::Model::kByteBpe:
      return "byte-level BPE";
    case TokenizerSpec::Model::kSentencePieceBpe:
      return "SentencePiece BPE by score";
    case TokenizerSpec::Model::kMergedBpe:
      return "BPE by merges with byte fallback";
    case TokenizerSpec::Model::kWordPiece:
      return "WordPiece";
    case TokenizerSpec::Model::kUnigram:
      return "SentencePiece unigram";
  }
  return "";
}

std::string DescribeTokenizer(const TokenizerSpec& spec) {
  std::string text =
      absl::StrFormat("%s, %d tokens, %d merges", ToAbsl(TokenizerModelName(spec.model)),
                      spec.tokens.size(), spec.merges.size());
  if (!spec.pre_tokenizer.empty()) absl::StrAppend(&text, ", split as ", spec.pre_tokenizer);
  return text;
}

// The tokens by id and, where they are printable, by name.
std::string DescribeSpecialTokens(const TokenizerSpec& spec) {
  const auto token = [&](int32_t id) {
    return absl::StrCat(id, " ", Quoted(spec.tokens[static_cast<size_t>(id)]));
  };
  const auto optional = [&](const std::optional<int32_t>& id) { return id ? token(*id) : "none"; };
  std::string text = absl::StrCat("BOS ", optional(spec.bos_id), spec.add_bos ? " (added)" : "",
                                  ", EOS ", optional(spec.eos_id), spec.add_eos ? " (added)" : "");
  for (const int32_t id : spec.end_of_turn_ids) absl::StrAppend(&text, ", end of turn ", token(id));
  return text;
}

std::string DescribeParameters(const std::vector<TensorInfo>& tensors) {
  int64_t parameters = 0, bytes = 0;
  for (const TensorInfo& tensor : tensors) {
    parameters += NumElements(tensor);
    bytes += tensor.bytes;
  }
  return absl::StrFormat("%.1f million, %s", static_cast<double>(parameters) / 1e6,
                         Mebibytes(bytes));
}

void AddSummary(std::string& out, const ModelFile& file) {
  const ModelConfig& c = file.config();
  AddLine(out, "format", file.format());
  AddLine(out, "architecture", c.architecture);
  AddLine(out, "name", c.name.empty() ? "(none)" : absl::CHexEscape(c.name));
  AddLine(out, "parameters", DescribeParameters(file.tensors()));
  AddLine(
      out, "sizes",
      absl::StrFormat("%d layers, hidden %d, FFN %d, vocabulary %d%s", c.num_layers, c.hidden_size,
                      c.ffn_size, c.vocab_size, c.tied_embeddings ? " (tied)" : ""));
  if (!c.mixture.num_experts.empty()) AddLine(out, "experts", DescribeMixture(c));
  AddLine(out, "context", absl::StrCat(c.context_length, " tokens"));
  AddLine(out, "attention", DescribeAttention(c));
  c.encoder.present ? AddLine(out, "encoder", DescribeEncoder(c))
                    : AddLine(out, "rotary", DescribeRope(c));
  AddLine(out, "tokenizer", DescribeTokenizer(file.tokenizer()));
  AddLine(out, "special tokens", DescribeSpecialTokens(file.tokenizer()));
  AddLine(
      out, "chat template",
      file.chat_template().empty() ? "none" : absl::StrCat(file.chat_template().size(), " bytes"));
}

// One line of the list: a tensor, or those of many experts that are alike.
struct TensorLine {
  std::string name;
  const TensorInfo* first;
  int count = 0;
  int64_t bytes = 0;
};

// "blk.3.ffn_up.7.weight" as "blk.3.ffn_up.*.weight"; other names as they are.
std::string WithoutExpert(std::string_view name) {
  std::vector<absl::string_view> parts = absl::StrSplit(ToAbsl(name), '.');
  const auto is_number = [](absl::string_view part) {
    return !part.empty() && part.find_first_not_of("0123456789") == absl::string_view::npos;
  };
  if (parts.size() == 5 && is_number(parts[3])) parts[3] = "*";
  return absl::StrJoin(parts, ".");
}

std::vector<TensorLine> LinesOf(const std::vector<TensorInfo>& tensors) {
  std::vector<TensorLine> lines;
  std::map<std::tuple<std::string, DType, std::vector<int64_t>>, size_t> known;
  for (const TensorInfo& tensor : tensors) {
    std::string name = WithoutExpert(tensor.name);
    const auto [found, is_new] =
        known.try_emplace({name, tensor.dtype, tensor.shape}, lines.size());
    if (is_new) lines.push_back({std::move(name), &tensor});
    TensorLine& line = lines[found->second];
    ++line.count;
    line.bytes += tensor.bytes;
  }
  return lines;
}

void AddTensors(std::string& out, const std::vector<TensorInfo>& tensors) {
  const std::vector<TensorLine> lines = LinesOf(tensors);
  size_t width = 0;
  for (const TensorLine& line : lines) width = std::max(width, line.name.size());
  absl::StrAppendFormat(&out, "\n%-*s  %-5s %-18s %12s\n", width, "tensor", "type", "shape",
                        "bytes");
  struct Total {
    int tensors = 0;
    int64_t bytes = 0;
  };
  std::map<std::string_view, Total> totals;
  for (const TensorLine& line : lines) {
    const std::string_view type = GetDTypeInfo(line.first->dtype).name;
    const std::string shape = absl::StrCat(line.count > 1 ? absl::StrCat(line.count, " x ") : "",
                                           "[", absl::StrJoin(line.first->shape, ", "), "]");
    absl::StrAppendFormat(&out, "%-*s  %-5s %-18s %12d\n", width, absl::CHexEscape(line.name),
                          ToAbsl(type), shape, line.bytes);
    totals[type].tensors += line.count;
    totals[type].bytes += line.bytes;
  }
  out += '\n';
  for (const auto& [type, total] : totals) {
    AddLine(out, type, absl::StrFormat("%d tensors, %s", total.tensors, Mebibytes(total.bytes)));
  }
}

// --- A router and masks to lay over a model ---

// A count in each layer, and of all layers.
class Counts {
 public:
  void Add(int64_t count) {
    least_ = all_.empty() ? count : std::min(least_, count);
    most_ = std::max(most_, count);
    all_.push_back(count);
  }
  double mean() const {
    const int64_t sum = std::accumulate(all_.begin(), all_.end(), int64_t{0});
    return static_cast<double>(sum) / static_cast<double>(std::max<size_t>(all_.size(), 1));
  }
  // "766 to 768"
  std::string range() const {
    return least_ == most_ ? absl::StrCat(most_) : absl::StrCat(least_, " to ", most_);
  }

 private:
  std::vector<int64_t> all_;
  int64_t least_ = 0, most_ = 0;
};

void AddExperts(std::string& out, const ModelConfig& c, const NeuronOwners& owners) {
  const int32_t experts = c.read_me.num_experts;
  const uint64_t everyone = ~uint64_t{0} >> (kMaxReadMeExperts - experts);
  Counts widths, residual, nobodys, owned;
  for (const std::vector<uint64_t>& layer : owners) {
    for (int32_t e = 0; e < experts; ++e) {
      widths.Add(std::count_if(layer.begin(), layer.end(),
                               [e](uint64_t sets) { return (sets >> e & 1) != 0; }));
    }
    residual.Add(std::count(layer.begin(), layer.end(), everyone));
    nobodys.Add(std::count(layer.begin(), layer.end(), uint64_t{0}));
    owned.Add(std::ssize(layer) - std::count(layer.begin(), layer.end(), uint64_t{0}));
  }
  AddLine(out, "experts", absl::StrFormat("%d, one for each token in all layers", experts));
  AddLine(out, "widths",
          absl::StrFormat("%s of %d neurons in a layer, %.1f %%", widths.range(), c.ffn_size,
                          100 * widths.mean() / c.ffn_size));
  AddLine(out, "residual",
          absl::StrFormat("%s neurons in a layer are every expert's, %.1f %% of one",
                          residual.range(), 100 * residual.mean() / widths.mean()));
  AddLine(out, "union",
          absl::StrFormat("%.2f experts' neurons in all; %.1f %% of neurons are nobody's",
                          owned.mean() / widths.mean(), 100 * nobodys.mean() / c.ffn_size));
}

std::string DescribeRouter(const ReadMeConfig& r) {
  std::string text = absl::StrFormat("%d layer%s of width %d", r.num_layers,
                                     r.num_layers == 1 ? "" : "s", r.embedding_dim);
  if (r.attends) {
    absl::StrAppendFormat(&text, ", %d heads of %d, scores by 1 / %g", r.num_heads, r.head_dim(),
                          r.normalizer);
  } else {
    absl::StrAppend(&text, ", without attention");
  }
  absl::StrAppend(&text, r.frozen_embedding ? ", embedding: the model's first columns"
                                            : ", an embedding of its own");
  return text;
}

absl::StatusOr<std::string> Sha256(const std::string& path) {
  const absl::StatusOr<MappedFile> file = MappedFile::Open(path, "model");
  if (!file.ok()) return file.status();
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  const std::string_view bytes = file->bytes();
  if (EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr) != 1) {
    return absl::InternalError("sha256: failed");
  }
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), size));
}

absl::StatusOr<std::string> DescribeOverlay(const std::string& folder) {
  const absl::StatusOr<ModelContents> contents = ReadReadMeOverlay(folder);
  if (!contents.ok()) return contents.status();
  const ModelConfig& c = contents->config;
  std::string text;
  AddLine(text, "format", "Read-ME overlay (--read-me), safetensors");
  AddLine(text, "of a model of",
          absl::StrFormat("%d layers, hidden %d, FFN %d, vocabulary %d", c.num_layers,
                          c.hidden_size, c.ffn_size, c.vocab_size));
  AddExperts(text, c, contents->neuron_owners);
  AddLine(text, "router", DescribeRouter(c.read_me));
  AddLine(text, "parameters", DescribeParameters(contents->tensors));
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path().filename());
  }
  std::sort(files.begin(), files.end());
  for (const std::string& name : files) {
    const absl::StatusOr<std::string> digest = Sha256(absl::StrCat(folder, "/", name));
    if (!digest.ok()) return digest.status();
    AddLine(text, "sha256", absl::StrCat(*digest, " ", absl::CHexEscape(name)));
  }
  AddTensors(text, contents->tensors);
  return text;
}

}  // namespace

absl::StatusOr<std::string> DescribeModel(const std::string& path) {
  if (IsReadMeOverlay(path)) return DescribeOverlay(path);
  const absl::StatusOr<std::unique_ptr<ModelFile>> file = ModelFile::Open(path);
  if (!file.ok()) return file.status();
  std::string text;
  AddSummary(text, **file);
  AddTensors(text, (*file)->tensors());
  return text;
}

}  // namespace pregate
