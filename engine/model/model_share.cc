#include "engine/model/model_share.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/model/file_error.h"

namespace pregate {
namespace {

constexpr char kFlag[] = "tensor-parallel-size";

// Neurons, and rows of a head, are dealt out by as many, which is what kernels compute at a time,
// unless a block of a quantised matrix is longer.
constexpr int64_t kUnit = 32;

// Rows or columns [begin, end) of `of`.
struct Range {
  int64_t begin = 0, end = 0, of = 0;
  int64_t size() const { return end - begin; }
};

// "blk.3.ffn_up.7.weight": layer 3, kind "ffn_up", part "7", last "weight".
struct Name {
  explicit Name(const std::string& name) {
    const std::vector<absl::string_view> words = absl::StrSplit(name, '.');
    if (words.size() < 4 || words[0] != "blk" || !absl::SimpleAtoi(words[1], &layer)) {
      kind = words[0];
      return;
    }
    kind = words[2];
    if (words.size() > 4) part = words[3];
    bias = words.back() == "bias";
  }
  int layer = -1;
  absl::string_view kind;
  absl::string_view part;  // an expert's number, "residual", or empty
  bool bias = false;
};

int64_t Elements(const TensorInfo& tensor) {
  int64_t elements = 1;
  for (const int64_t size : tensor.shape) elements *= size;
  return elements;
}

// Tensors that every rank has and a loader counts.
bool IsOnEveryRank(absl::string_view kind) {
  constexpr absl::string_view kKinds[] = {
      "token_embd",  "output_norm",         "attn_norm",     "ffn_norm",     "attn_q_norm",
      "attn_k_norm", "post_attention_norm", "post_ffw_norm", "ffn_gate_inp", "ffn_gate_inp_shexp"};
  return std::find(std::begin(kKinds), std::end(kKinds), kind) != std::end(kKinds);
}

}  // namespace

class ShareMaker {
 public:
  ShareMaker(const ModelFile& file, const ModelShare::Part& part)
      : file_(file), part_(part), share_(new ModelShare(file)) {}

  absl::StatusOr<std::unique_ptr<ModelShare>> Make() {
    if (absl::Status status = CheckKind(); !status.ok()) return status;
    if (absl::Status status = DealHeads(); !status.ok()) return status;
    for (const TensorInfo& tensor : file_.tensors()) {
      const Name name(tensor.name);
      if (name.kind.substr(0, 8) != "ffn_down" || name.bias) continue;
      unit_ = std::max<int64_t>(unit_, GetDTypeInfo(tensor.dtype).block_elements);
    }
    CutConfig();
    for (const TensorInfo& tensor : file_.tensors()) {
      if (absl::Status status = Take(tensor); !status.ok()) return status;
    }
    if (absl::Status status = CutOwners(); !status.ok()) return status;
    for (size_t i = 0; i < share_->tensors_.size(); ++i) {
      share_->by_name_.emplace(share_->tensors_[i].name, i);
    }
    return std::move(share_);
  }

 private:
  absl::Status Refuse(absl::string_view rule) const {
    return absl::InvalidArgumentError(absl::StrCat(kFlag, ": must ", rule, "; got ", part_.size));
  }

  // The `rank`-th share of `of` neurons or rows, in whole units.
  static int64_t BeginOf(int64_t of, int64_t unit, int32_t rank, int32_t size) {
    const int64_t units = (of + unit - 1) / unit;
    return std::min(of, units * rank / size * unit);
  }
  Range Share(int64_t of, int64_t unit) const {
    return {BeginOf(of, unit, part_.rank, part_.size),
            BeginOf(of, unit, part_.rank + 1, part_.size), of};
  }
  Range Share(int64_t of) const { return Share(of, unit_); }

  // What is not cut at all.
  absl::Status CheckKind() const {
    const ModelConfig& config = file_.config();
    if (config.encoder.present) {
      return absl::UnimplementedError(absl::StrCat(kFlag, ": encoders run on one device"));
    }
    for (const TensorInfo& tensor : file_.tensors()) {
      if (tensor.dtype != DType::kF8E4M3) continue;
      return absl::UnimplementedError(absl::StrCat(
          kFlag, ": ", tensor.name, " has its scales in another tensor, which runs on one device"));
    }
    if (!config.norms_by_head) {
      return absl::UnimplementedError(absl::StrCat(
          kFlag, ": queries and keys of this model have a norm over all heads, which run on one ",
          "device"));
    }
    if (!part_.by_expert) return absl::OkStatus();
    if (config.read_me.num_experts > 0) {
      return absl::UnimplementedError(
          "enable-expert-parallel: experts of a Read-ME model are dealt out by neurons, as a step "
          "meets few of them");
    }
    const std::vector<int32_t>& experts = config.mixture.num_experts;
    const int32_t most = experts.empty() ? 0 : *std::max_element(experts.begin(), experts.end());
    if (most == 0) {
      return absl::InvalidArgumentError(
          "enable-expert-parallel: must be off for a model without gates; got on");
    }
    for (const int32_t count : experts) {
      if (count > 0 && count < part_.size) {
        return Refuse(absl::StrCat("be at most the experts of a layer, ", count));
      }
    }
    return absl::OkStatus();
  }

  // Query heads that share a key-value head stay together; fewer of those than ranks are copied.
  absl::Status DealHeads() {
    const ModelConfig& config = file_.config();
    const int64_t size = part_.size, rank = part_.rank, width = config.head_dim;
    if (config.num_heads % size != 0) {
      return Refuse(absl::StrCat("divide the model's ", config.num_heads, " attention heads"));
    }
    const int64_t heads = config.num_heads / size, kv_heads = config.num_kv_heads;
    if (kv_heads % size != 0 && size % kv_heads != 0) {
      return Refuse(absl::StrCat("divide the model's ", kv_heads, " key-value heads, or be a ",
                                 "multiple of them"));
    }
    query_ = {rank * heads * width, (rank + 1) * heads * width, config.num_heads * width};
    const int64_t first = rank * kv_heads / size;
    const int64_t own = std::max<int64_t>(1, kv_heads / size);
    kv_ = {first * width, (first + own) * width, kv_heads * width};
    kv_repeated_ = kv_heads < size && rank % (size / kv_heads) != 0;
    return absl::OkStatus();
  }

  void CutConfig() {
    ModelConfig& config = share_->config_;
    config = file_.config();
    config.num_heads = static_cast<int32_t>(query_.size() / config.head_dim);
    config.num_kv_heads = static_cast<int32_t>(kv_.size() / config.head_dim);
    config.ffn_size = static_cast<int32_t>(Share(config.ffn_size).size());
    MixtureConfig& mixture = config.mixture;
    mixture.shared_ffn_size = static_cast<int32_t>(Share(mixture.shared_ffn_size).size());
    if (!part_.by_expert) {
      mixture.expert_ffn_size = static_cast<int32_t>(Share(mixture.expert_ffn_size).size());
    }
    // The router's is rank 0, which tells the others.
    if (part_.rank > 0) config.read_me.num_layers = 0;
    config.shard.rank = part_.rank;
    config.shard.size = part_.size;
    config.shard.by_expert = part_.by_expert;
    const int64_t unit = config.vocab_size < kUnit * part_.size ? 1 : kUnit;
    for (int32_t r = 0; r <= part_.size; ++r) {
      config.shard.head_begin.push_back(BeginOf(config.vocab_size, unit, r, part_.size));
    }
    head_ = {config.shard.head_begin[static_cast<size_t>(part_.rank)],
             config.shard.head_begin[static_cast<size_t>(part_.rank) + 1], config.vocab_size};
  }

  absl::Status Take(const TensorInfo& tensor) {
    const Name name(tensor.name);
    const absl::string_view kind = name.kind;
    if (kind == "cluster_predictor") return part_.rank > 0 ? absl::OkStatus() : Keep(tensor);
    if (kind == "output") return KeepRows(tensor, head_);
    if (kind == "token_embd" && file_.config().tied_embeddings) {
      TensorInfo head = tensor;
      head.name = std::string("output.weight");
      if (absl::Status status = KeepRows(std::move(head), head_); !status.ok()) return status;
      share_->repeated_parameters_ += Elements(share_->tensors_.back());
      share_->config_.tied_embeddings = false;
    }
    if (kind == "attn_q") return KeepRows(tensor, query_);
    if (kind == "attn_k" || kind == "attn_v") {
      absl::Status status = KeepRows(tensor, kv_);
      if (kv_repeated_) share_->repeated_parameters_ += Elements(share_->tensors_.back());
      return status;
    }
    if (kind == "attn_output") return KeepColumns(tensor, name, query_);
    if (!IsOnEveryRank(kind) && kind.substr(0, 4) == "ffn_") return TakeNeurons(tensor, name);
    if (part_.rank > 0 && IsOnEveryRank(kind)) share_->repeated_parameters_ += Elements(tensor);
    return Keep(tensor);
  }

  // A gate, up or down matrix, or its bias: of a dense FFN, an expert, or the shared one.
  absl::Status TakeNeurons(const TensorInfo& tensor, const Name& name) {
    if (int32_t expert = 0; part_.by_expert && absl::SimpleAtoi(name.part, &expert)) {
      const ShardConfig& shard = share_->config_.shard;
      const int32_t experts = file_.config().mixture.NumExperts(name.layer);
      const bool here = expert >= shard.ExpertBegin(experts, part_.rank) &&
                        expert < shard.ExpertBegin(experts, part_.rank + 1);
      return here ? Keep(tensor) : absl::OkStatus();
    }
    const bool down = name.kind.substr(0, 8) == "ffn_down";
    if (down && name.bias) return KeepColumns(tensor, name, {});
    const int64_t width = down ? tensor.shape.back() : tensor.shape.front();
    // Experts that a Read-ME checkpoint stores as matrices are cut into tiles later.
    const bool tiled = file_.config().read_me.num_experts > 0 && !file_.config().read_me.masked;
    const int64_t unit = tiled ? 1 : unit_;
    const Range range = Share(width, unit);
    if (range.size() == 0) {
      return Refuse(absl::StrCat("be at most the units of ", unit, " among the ", width,
                                 " neurons of ", tensor.name));
    }
    return down ? KeepColumns(tensor, name, range) : KeepRows(tensor, range);
  }

  absl::Status Keep(TensorInfo tensor) {
    share_->tensors_.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  // Rows of a matrix, or elements of a vector.
  absl::Status KeepRows(TensorInfo tensor, const Range& range) {
    const bool vector = tensor.shape.size() == 1;
    if (tensor.shape.front() != range.of || tensor.shape.size() > 2) {
      return DoesNotFit(tensor.name, absl::StrCat("must have ", range.of, " rows"),
                        absl::StrCat(tensor.shape.front()));
    }
    if (vector && GetDTypeInfo(tensor.dtype).block_elements > 1) {
      return NotServed(tensor.name, "must have a plain type to be dealt out",
                       GetDTypeInfo(tensor.dtype).name);
    }
    const int64_t bytes = RowBytes(tensor.dtype, vector ? 1 : tensor.shape.back());
    tensor.data = static_cast<const char*>(tensor.data) + range.begin * bytes;
    tensor.bytes = range.size() * bytes;
    tensor.shape.front() = range.size();
    return Keep(std::move(tensor));
  }

  // Columns of a matrix. Its bias is added once: by rank 0.
  absl::Status KeepColumns(TensorInfo tensor, const Name& name, const Range& range) {
    if (name.bias) return part_.rank > 0 ? absl::OkStatus() : Keep(std::move(tensor));
    if (tensor.shape.size() != 2 || tensor.shape.back() != range.of) {
      return DoesNotFit(tensor.name, absl::StrCat("must have ", range.of, " columns"),
                        absl::StrCat(tensor.shape.back()));
    }
    const int64_t block = GetDTypeInfo(tensor.dtype).block_elements;
    if (range.begin % block != 0 || range.end % block != 0) {
      return Refuse(absl::StrCat("cut ", tensor.name, " (", range.of, " columns in blocks of ",
                                 block, ") between blocks"));
    }
    tensor.stride = RowBytes(tensor.dtype, range.of);
    tensor.data = static_cast<const char*>(tensor.data) + RowBytes(tensor.dtype, range.begin);
    tensor.bytes = tensor.shape.front() * RowBytes(tensor.dtype, range.size());
    tensor.shape.back() = range.size();
    return Keep(std::move(tensor));
  }

  // Who owns the neurons of this rank. An expert without any would have no work here, and kernels
  // take an empty list of tiles for all of them.
  absl::Status CutOwners() {
    const Range range = Share(file_.config().ffn_size);
    const uint64_t everyone =
        ~uint64_t{0} >> (kMaxReadMeExperts - std::max(1, file_.config().read_me.num_experts));
    for (const std::vector<uint64_t>& owners : file_.neuron_owners()) {
      if (owners.size() != static_cast<size_t>(range.of)) continue;
      std::vector<uint64_t>& own = share_->neuron_owners_.emplace_back(owners.begin() + range.begin,
                                                                       owners.begin() + range.end);
      uint64_t seen = 0;
      for (const uint64_t set : own) seen |= set;
      if (seen != everyone) {
        return Refuse(absl::StrCat("leave every expert neurons on every rank; layer ",
                                   share_->neuron_owners_.size() - 1, " has one without on rank ",
                                   part_.rank));
      }
    }
    return absl::OkStatus();
  }

  const ModelFile& file_;
  const ModelShare::Part part_;
  std::unique_ptr<ModelShare> share_;
  int64_t unit_ = kUnit;  // of neurons
  Range query_, kv_, head_;
  bool kv_repeated_ = false;  // an earlier rank has these heads, too
};

absl::StatusOr<std::unique_ptr<ModelShare>> ModelShare::Create(const ModelFile& file,
                                                               const Part& part) {
  return ShareMaker(file, part).Make();
}

const TensorInfo* ModelShare::FindInfo(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace pregate
