#include "engine/model/weights.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/read_me_weights.h"
#include "engine/model/weight_loader.h"

namespace pregate {
namespace {

// The neurons of "`prefix`{gate,up,down}`suffix`", as block and expert `index` of `ffn`.
void LoadExpert(const std::string& prefix, const std::string& suffix, int64_t width, int64_t hidden,
                size_t index, WeightLoader& load, FfnWeights& ffn) {
  NeuronBlock& block = ffn.blocks[index];
  load.Matrix(absl::StrCat(prefix, "gate", suffix), width, hidden, &block.gate);
  load.Matrix(absl::StrCat(prefix, "up", suffix), width, hidden, &block.up);
  load.Matrix(absl::StrCat(prefix, "down", suffix), hidden, width, &block.down);
  ffn.experts[index] = {{{static_cast<int32_t>(index), {}}}, {}, width};
}

void LoadFfn(const ModelConfig& config, int layer, WeightLoader& load, Weights& weights) {
  FfnWeights& ffn = weights.layers[static_cast<size_t>(layer)].ffn;
  const std::string prefix = absl::StrCat("blk.", layer, ".ffn_");
  const int64_t hidden = config.hidden_size;
  const MixtureConfig& mixture = config.mixture;
  const int32_t experts = mixture.NumExperts(layer);
  const int32_t first = config.shard.ExpertBegin(experts, config.shard.rank);
  const auto routed =
      static_cast<size_t>(config.shard.ExpertBegin(experts, config.shard.rank + 1) - first);
  const bool shared = routed > 0 && mixture.shared_ffn_size > 0;
  ffn.blocks.resize(std::max<size_t>(1, routed + (shared ? 1 : 0)));
  ffn.experts.resize(ffn.blocks.size());
  if (routed == 0) {
    LoadExpert(prefix, "", config.ffn_size, hidden, 0, load, ffn);
    weights.ffn_shape.Cover(ffn, 1);
    return;
  }
  ffn.first_expert = first;
  load.Gate(prefix + "gate_inp", experts, hidden, &ffn.gate);
  const LoadedMemory& memory = load.memory();
  const int64_t bytes = memory.bytes, parameters = memory.parameters;
  for (size_t e = 0; e < routed; ++e) {
    LoadExpert(prefix, absl::StrCat(".", first + static_cast<int32_t>(e)), mixture.expert_ffn_size,
               hidden, e, load, ffn);
  }
  weights.routed.push_back({memory.bytes - bytes, memory.parameters - parameters,
                            static_cast<double>(mixture.gate.k) / experts});
  if (shared) {
    ffn.shared_expert = static_cast<int32_t>(routed);
    LoadExpert(prefix, "_shexp", mixture.shared_ffn_size, hidden, routed, load, ffn);
    load.OptionalGate(prefix + "gate_inp_shexp", 1, hidden, &ffn.shared_gate);
  }
  weights.ffn_shape.Cover(ffn, mixture.gate.k);
}

// The experts of a Read-ME model.
void LoadExperts(ReadMeFfns& ffns, int layer, WeightLoader& load, Weights& weights) {
  FfnWeights& ffn = weights.layers[static_cast<size_t>(layer)].ffn;
  const LoadedMemory& memory = load.memory();
  const int64_t bytes = memory.bytes, parameters = memory.parameters;
  const int64_t stored = ffns.Load(layer, load, ffn);
  int64_t read = 0;
  for (const Expert& expert : ffn.experts) read += expert.width;
  weights.routed.push_back({memory.bytes - bytes, memory.parameters - parameters,
                            static_cast<double>(read) / static_cast<double>(ffn.experts.size()) /
                                static_cast<double>(stored)});
  weights.ffn_shape.Cover(ffn, 1);
}

// All of a layer but its FFN.
void LoadLayer(const ModelConfig& config, int index, WeightLoader& load, LayerWeights& layer) {
  const std::string prefix = absl::StrCat("blk.", index, ".");
  const int64_t hidden = config.hidden_size;
  const int64_t query = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv = int64_t{config.num_kv_heads} * config.head_dim;
  layer.attention_norm = load.Vector(prefix + "attn_norm.weight", hidden);
  load.Matrix(prefix + "attn_q", query, hidden, &layer.query);
  load.Matrix(prefix + "attn_k", kv, hidden, &layer.key);
  load.Matrix(prefix + "attn_v", kv, hidden, &layer.value);
  load.Matrix(prefix + "attn_output", hidden, query, &layer.attention_output);
  layer.query_norm = load.OptionalVector(prefix + "attn_q_norm.weight",
                                         config.norms_by_head ? config.head_dim : query);
  layer.key_norm = load.OptionalVector(prefix + "attn_k_norm.weight",
                                       config.norms_by_head ? config.head_dim : kv);
  layer.post_attention_norm = load.OptionalVector(prefix + "post_attention_norm.weight", hidden);
  layer.ffn_norm = load.Vector(prefix + "ffn_norm.weight", hidden);
  layer.post_ffn_norm = load.OptionalVector(prefix + "post_ffw_norm.weight", hidden);
}

int64_t RoutedBytes(const Weights& weights) {
  int64_t bytes = 0;
  for (const Weights::Routed& routed : weights.routed) bytes += routed.bytes;
  return bytes;
}

// Brings in what all experts need, which stays.
absl::Status LoadPinned(const ModelConfig& config, Weights& weights, ExpertStore& store) {
  const uint64_t everyone = ~uint64_t{0} >> (kMaxReadMeExperts - config.read_me.num_experts);
  for (size_t u = 0; u < weights.tile_units.size(); ++u) {
    if (weights.tile_units[u] != everyone) continue;
    const auto unit = static_cast<int32_t>(u);
    store.Load(unit, true);
    const absl::StatusOr<const char*> last = store.Await(unit, config.num_layers - 1);
    if (!last.ok()) return last.status();
  }
  store.FinishStep();  // nobody has waited in a step
  store.TakeEndings();
  return absl::OkStatus();
}

bool Fits(const Weights& weights, const ExpertMemory& memory) {
  return memory.bytes == 0 || RoutedBytes(weights) <= memory.bytes;
}

}  // namespace

absl::StatusOr<Weights> LoadWeights(const ModelFile& file, Device* device, const Kernels& kernels,
                                    const WeightOptions& options) {
  const ModelConfig& config = file.config();
  WeightLoader load(file, device, kernels, options.activations, options.quantization);
  Weights weights;
  const int64_t vocab = config.vocab_size, hidden = config.hidden_size;
  // A tied head is the embedding table, which then is read whole by each step.
  if (config.tied_embeddings) {
    load.Matrix("token_embd", vocab, hidden, &weights.head);
  } else {
    load.Table("token_embd", vocab, hidden, &weights.embedding);
    load.Matrix("output", config.shard.head_rows(vocab), hidden, &weights.head);
  }
  std::optional<ReadMeFfns> experts;
  if (config.read_me.num_experts > 0) {
    experts.emplace(file, options.expert_storage, options.expert_memory.bytes, device, load);
    weights.tile_units = experts->units();
  }
  weights.layers.resize(static_cast<size_t>(config.num_layers));
  for (int i = 0; i < config.num_layers && load.status().ok(); ++i) {
    LoadLayer(config, i, load, weights.layers[static_cast<size_t>(i)]);
    experts ? LoadExperts(*experts, i, load, weights) : LoadFfn(config, i, load, weights);
  }
  weights.output_norm = load.Vector("output_norm.weight", config.hidden_size);
  if (experts && experts->tied() && experts->units().empty() &&
      !Fits(weights, options.expert_memory)) {
    // Experts come and go as copies, unless asked to share what they overlap in.
    if (options.expert_storage == ExpertStorage::kTied) {
      return absl::InvalidArgumentError(
          absl::StrCat("expert-cache-memory: must hold all experts while they are tied, ",
                       RoutedBytes(weights), " bytes; got ", options.expert_memory.bytes));
    }
    WeightOptions copies = options;
    copies.expert_storage = ExpertStorage::kCopies;
    return LoadWeights(file, device, kernels, copies);
  }
  load.Pack(options.expert_memory, options.progress);
  if (config.tied_embeddings) weights.embedding = weights.head.weight;
  if (!load.status().ok()) return load.status();
  weights.memory = std::move(load.memory());
  if (weights.memory.experts != nullptr && !weights.tile_units.empty()) {
    if (absl::Status status = LoadPinned(config, weights, *weights.memory.experts); !status.ok()) {
      return status;
    }
  }
  return weights;
}

}  // namespace pregate
