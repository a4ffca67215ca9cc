// The neurons of a layer of Read-ME experts, each once, whatever the form of the checkpoint.
#ifndef PREGATE_ENGINE_MODEL_READ_ME_POOL_H_
#define PREGATE_ENGINE_MODEL_READ_ME_POOL_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/tensor.h"

namespace pregate {

// Neurons that a checkpoint stores together: a dense FFN, an expert, or a residual that all experts
// share. H is the width of the model, n that of this part.
struct FfnPart {
  ConstTensor gate, up;          // [n, H]
  ConstTensor down;              // [H, n]
  std::vector<uint64_t> owners;  // [n] bit e: expert e owns the neuron
};

struct NeuronPool {
  struct Source {
    int32_t part;
    int32_t neuron;  // in the part
  };
  std::vector<Source> neurons;
  std::vector<uint64_t> owners;  // [neurons]

  // Whether a neuron has several owners.
  bool Shared() const;
};

// Makes one neuron of those of different owners whose rows of `gate` and `up` and columns of `down`
// are equal bit for bit: experts that were cut out of one dense FFN are subsets of it again (arXiv
// 2410.19123, section 3.1). A single part stays as it is; several have plain types, the same in
// all.
NeuronPool TieNeurons(absl::Span<const FfnPart> parts);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_READ_ME_POOL_H_
