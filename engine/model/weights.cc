#include "engine/model/weights.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

bool IsPlain(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

// Element `i` of a vector of a plain type.
float Element(ConstTensor vector, int64_t i) {
  if (vector.dtype == DType::kF16) return HalfToFloat(vector.Row<uint16_t>(0)[i]);
  if (vector.dtype == DType::kBF16) return BFloat16ToFloat(vector.Row<uint16_t>(0)[i]);
  return vector.Row<float>(0)[i];
}

// Takes tensors one by one; after the first failure every call gives nothing and `status` says why.
class WeightLoader {
 public:
  WeightLoader(const ModelFile& file, Device* device, const Kernels& kernels,
               bool float_activations)
      : file_(file), device_(device), kernels_(kernels), float_activations_(float_activations) {}

  // A vector of `size` elements as floats in device memory.
  ConstTensor Vector(const std::string& name, int64_t size) {
    const ConstTensor source = Require(name, 1, size);
    if (!source) return {};
    if (!IsPlain(source.dtype)) return Refuse(name, source.dtype);
    std::vector<float> values(static_cast<size_t>(size));
    for (int64_t i = 0; i < size; ++i) values[static_cast<size_t>(i)] = Element(source, i);
    absl::StatusOr<DeviceBuffer> buffer = device_->Allocate(values.size() * sizeof(float));
    if (!buffer.ok()) {
      status_ = buffer.status();
      return {};
    }
    device_->CopyToDevice(buffer->data(), values.data(), buffer->size());
    const ConstTensor view = MakeView(std::as_const(*buffer).data(), DType::kF32, 1, size);
    weights_.owned.push_back(*std::move(buffer));
    return view;
  }
  ConstTensor OptionalVector(const std::string& name, int64_t size) {
    return file_.Find(name) ? Vector(name, size) : ConstTensor();
  }

  // `name`.weight [out, in] and, where the file has it, `name`.bias.
  Linear Matrix(const std::string& name, int64_t out, int64_t in) {
    Linear linear;
    linear.weight = Require(name + ".weight", out, in);
    if (!linear.weight) return linear;
    const size_t type = static_cast<size_t>(linear.weight.dtype);
    if (kernels_.matmul[type] == nullptr) Refuse(name + ".weight", linear.weight.dtype);
    if (!float_activations_ && in % 32 == 0) linear.input = kernels_.activation_dtype[type];
    linear.bias = OptionalVector(name + ".bias", out).Row<float>(0);
    return linear;
  }

  // The table of token embeddings: its rows are looked up, so a step does not read the whole.
  ConstTensor Embedding(int64_t vocab, int64_t hidden) {
    const Linear table = Matrix("token_embd", vocab, hidden);
    weights_.step_bytes -= vocab * table.weight.stride;
    return table.weight;
  }

  // The output projection; with tied embeddings the table itself, now read whole by each step.
  Linear Head(bool tied, int64_t vocab, int64_t hidden) {
    Linear head = Matrix(tied ? "token_embd" : "output", vocab, hidden);
    if (tied) weights_.parameters -= vocab * hidden;
    return head;
  }

  const absl::Status& status() const { return status_; }
  Weights& weights() { return weights_; }

 private:
  ConstTensor Require(const std::string& name, int64_t rows, int64_t cols) {
    if (!status_.ok()) return {};
    const absl::StatusOr<ConstTensor> tensor = file_.Require(name, rows, cols);
    if (!tensor.ok()) {
      status_ = tensor.status();
      return {};
    }
    weights_.step_bytes += rows * tensor->stride;
    weights_.parameters += rows * cols;
    return *tensor;
  }

  ConstTensor Refuse(const std::string& name, DType dtype) {
    status_ = absl::UnimplementedError(
        absl::StrCat(name, ": must have a type that the ", std::string(kernels_.name),
                     " kernels can use here; got ", std::string(GetDTypeInfo(dtype).name)));
    return {};
  }

  const ModelFile& file_;
  Device* device_;
  const Kernels& kernels_;
  bool float_activations_;
  Weights weights_;
  absl::Status status_;
};

LayerWeights LoadLayer(WeightLoader& load, const ModelConfig& config, int index) {
  const std::string prefix = absl::StrCat("blk.", index, ".");
  const int64_t hidden = config.hidden_size;
  const int64_t query = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv = int64_t{config.num_kv_heads} * config.head_dim;
  LayerWeights layer;
  layer.attention_norm = load.Vector(prefix + "attn_norm.weight", hidden);
  layer.query = load.Matrix(prefix + "attn_q", query, hidden);
  layer.key = load.Matrix(prefix + "attn_k", kv, hidden);
  layer.value = load.Matrix(prefix + "attn_v", kv, hidden);
  layer.attention_output = load.Matrix(prefix + "attn_output", hidden, query);
  layer.query_norm = load.OptionalVector(prefix + "attn_q_norm.weight", config.head_dim);
  layer.key_norm = load.OptionalVector(prefix + "attn_k_norm.weight", config.head_dim);
  layer.post_attention_norm = load.OptionalVector(prefix + "post_attention_norm.weight", hidden);
  layer.ffn_norm = load.Vector(prefix + "ffn_norm.weight", hidden);
  layer.gate = load.Matrix(prefix + "ffn_gate", config.ffn_size, hidden);
  layer.up = load.Matrix(prefix + "ffn_up", config.ffn_size, hidden);
  layer.down = load.Matrix(prefix + "ffn_down", hidden, config.ffn_size);
  layer.post_ffn_norm = load.OptionalVector(prefix + "post_ffw_norm.weight", hidden);
  return layer;
}

}  // namespace

absl::StatusOr<Weights> LoadWeights(const ModelFile& file, Device* device, const Kernels& kernels,
                                    bool float_activations) {
  const ModelConfig& config = file.config();
  WeightLoader load(file, device, kernels, float_activations);
  Weights& weights = load.weights();
  weights.embedding = load.Embedding(config.vocab_size, config.hidden_size);
  for (int i = 0; i < config.num_layers && load.status().ok(); ++i) {
    weights.layers.push_back(LoadLayer(load, config, i));
  }
  weights.output_norm = load.Vector("output_norm.weight", config.hidden_size);
  weights.head = load.Head(config.tied_embeddings, config.vocab_size, config.hidden_size);
  if (!load.status().ok()) return load.status();
  return std::move(weights);
}

}  // namespace pregate
