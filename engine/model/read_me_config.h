// A Read-ME model (arXiv 2410.19123): experts for whole models, and a small decoder ahead of it,
// the router, that names one for each token.
#ifndef PREGATE_ENGINE_MODEL_READ_ME_CONFIG_H_
#define PREGATE_ENGINE_MODEL_READ_ME_CONFIG_H_

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace pregate {

class JsonFields;

// How experts that overlap are kept in memory.
enum class ExpertStorage : uint8_t {
  kAuto,    // kTied if any share a neuron, else kCopies
  kTied,    // neurons once, in tiles that their owners share
  kCopies,  // a block of its own for each expert
};

// By layer and neuron: bit e says that expert e owns it.
using NeuronOwners = std::vector<std::vector<uint64_t>>;

// Experts of a Read-ME model are bits of a word.
inline constexpr int32_t kMaxReadMeExperts = 64;

// Names in brackets are those of config.json.
struct ReadMeConfig {
  int32_t num_experts = 0;  // [N_cluster] 2 to 64; 0: not a Read-ME model
  // The router.
  int32_t embedding_dim = 0;                  // [embedding_dim, inter_dim] E
  int32_t num_layers = 0;                     // [n_layer]
  int32_t num_heads = 0;                      // [n_head] divides E
  float normalizer = 1.0f;                    // [normalizer] divides q.k
  Activation activation = Activation::kSilu;  // [hidden_act_predictor]
  bool attends = true;                        // [nonautoregressive] is false
  // [frozen_embedding] Its embedding is the first E columns of the model's.
  bool frozen_embedding = false;
  // Experts are masks over the neurons of a dense FFN; otherwise matrices of their own. What the
  // tensors of the checkpoint say.
  bool masked = false;

  int32_t head_dim() const { return embedding_dim / num_heads; }
  // Layers of the router that have keys and values.
  int32_t kv_layers() const { return attends ? num_layers : 0; }
};

// The fields of a config.json that has `add_cluster_predictor`; num_experts stays 0 for any other.
// Errors go to `fields`.
ReadMeConfig ReadReadMeConfig(JsonFields& fields);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_READ_ME_CONFIG_H_
