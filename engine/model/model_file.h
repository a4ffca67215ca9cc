// One opened model: configuration, tokenizer and tensors, whatever the format on disk.
#ifndef PREGATE_ENGINE_MODEL_MODEL_FILE_H_
#define PREGATE_ENGINE_MODEL_MODEL_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_config.h"
#include "engine/tokenizer.h"
#include "kernels/tensor.h"

namespace pregate {

// One tensor of a file, for `pregate inspect` and for loading. Dimensions outermost first.
struct TensorInfo {
  std::string name;  // canonical, see ModelFile::Find
  DType dtype;
  std::vector<int64_t> shape;  // 1 to 4 dimensions
  const void* data;            // in the mapping
  int64_t bytes;
  int64_t stride = 0;  // bytes from row to row; 0: rows are densely packed
};

class ModelFile {
 public:
  // `path` is a GGUF file or a Hugging Face folder. The files are mapped read-only; everything read
  // from them is bounds-checked before use. Errors name the file's field or tensor:
  // INVALID_ARGUMENT (malformed), UNIMPLEMENTED (type or architecture we do not serve),
  // FAILED_PRECONDITION (complete file of a wrong shape), NOT_FOUND.
  static absl::StatusOr<std::unique_ptr<ModelFile>> Open(const std::string& path);
  virtual ~ModelFile() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const TokenizerSpec& tokenizer() const = 0;
  // The chat template in Jinja, or "".
  virtual const std::string& chat_template() const = 0;
  // "GGUF v3" or "safetensors".
  virtual std::string_view format() const = 0;
  // In the order of the file. Names are GGUF's, whatever the format: token_embd, output_norm,
  // output, rope_freqs, and for layer i blk.i.{attn_norm, attn_q, attn_k, attn_v, attn_output,
  // attn_q_norm, attn_k_norm, post_attention_norm, ffn_norm, ffn_gate, ffn_up, ffn_down,
  // post_ffw_norm}, each with ".weight" or ".bias". A layer with a mixture of experts has no
  // ffn_gate, ffn_up and ffn_down but a router blk.i.ffn_gate_inp.weight [experts, H], for expert e
  // blk.i.{ffn_gate, ffn_up, ffn_down}.e.weight, and for the expert that all rows share
  // blk.i.{ffn_gate_shexp, ffn_up_shexp, ffn_down_shexp}.weight and the gate of its output,
  // blk.i.ffn_gate_inp_shexp.weight [1, H]. An encoder has token_embd, position_embd, token_types,
  // token_embd_norm, cls and cls.output (of a cross-encoder), and blk.i.{attn_q, attn_k, attn_v,
  // attn_output, attn_output_norm, ffn_up, ffn_down, layer_output_norm}, each with both. (GGUF
  // files have a tensor of three dimensions for all experts of a layer, ffn_gate_exps and so on: it
  // is listed as its experts.)
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  // Which experts of a Read-ME model own the neurons of the dense FFN, where its experts are such
  // masks; empty for all other models.
  virtual const NeuronOwners& neuron_owners() const {
    static const NeuronOwners none;
    return none;
  }
  // Says that a tensor's data will hardly be read again: its memory may be given back to the
  // system. It stays readable.
  virtual void Release(ConstTensor tensor) const = 0;

  // A two-dimensional view of the tensor (a vector is one row), or nullptr data when absent.
  ConstTensor Find(std::string_view name) const;
  // As Find, but FAILED_PRECONDITION, naming the tensor, when it is absent or not [rows, cols].
  absl::StatusOr<ConstTensor> Require(std::string_view name, int64_t rows, int64_t cols) const;

 protected:
  // nullptr when absent. Looks at one tensor after the other: for a few.
  virtual const TensorInfo* FindInfo(std::string_view name) const;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_MODEL_FILE_H_
