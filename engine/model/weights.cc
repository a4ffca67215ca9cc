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

// Packed matrices start at multiples of this many bytes.
constexpr int64_t kAlignment = 64;

// Takes tensors one by one, then packs the matrices among them. After the first failure every call
// gives nothing and `status` says why.
class WeightLoader {
 public:
  WeightLoader(const ModelFile& file, Device* device, const Kernels& kernels, DType activations)
      : file_(file), device_(device), kernels_(kernels), activations_(activations) {}

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
    weights_.step_bytes += size * static_cast<int64_t>(sizeof(float));
    weights_.owned.push_back(*std::move(buffer));
    return view;
  }
  ConstTensor OptionalVector(const std::string& name, int64_t size) {
    return file_.Find(name) ? Vector(name, size) : ConstTensor();
  }

  // `name`.weight [out, in] and, where the file has it, `name`.bias. Its data follows with Pack.
  void Matrix(const std::string& name, int64_t out, int64_t in, Linear* linear) {
    weights_.step_bytes += Table(name, out, in, &linear->weight);
    const DType wanted = kernels_.activation_dtype[static_cast<size_t>(linear->weight.dtype)];
    if (wanted == DType::kQ16Act && in % 32 == 0) linear->input = activations_;
    linear->bias = OptionalVector(name + ".bias", out).Row<float>(0);
  }

  // `name`.weight [rows, cols] alone; returns the bytes that it takes.
  int64_t Table(const std::string& name, int64_t rows, int64_t cols, PackedWeight* packed) {
    const ConstTensor source = Require(name + ".weight", rows, cols);
    if (!source) return 0;
    const int64_t bytes = kernels_.packed_bytes(source.dtype, rows, cols);
    if (bytes == 0) {
      Refuse(name + ".weight", source.dtype);
      return 0;
    }
    *packed = {nullptr, source.dtype, rows, cols};
    matrices_.push_back({source, packed, packed_bytes_});
    packed_bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return bytes;
  }

  // Brings every matrix into the kernels' form, into one piece of memory. The file's memory is
  // given back on the way, so that the two forms are never there together.
  void Pack(const std::function<void(double)>& progress) {
    if (!status_.ok()) return;
    absl::StatusOr<DeviceBuffer> buffer = device_->Allocate(static_cast<size_t>(packed_bytes_));
    if (!buffer.ok()) {
      status_ = buffer.status();
      return;
    }
    for (const Unpacked& matrix : matrices_) {
      char* const packed = static_cast<char*>(buffer->data()) + matrix.offset;
      kernels_.pack(*device_, matrix.source, packed);
      matrix.packed->data = packed;
      file_.Release(matrix.source);
      if (progress) {
        progress(static_cast<double>(matrix.offset) / static_cast<double>(packed_bytes_));
      }
    }
    weights_.owned.push_back(*std::move(buffer));
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
  DType activations_;
  Weights weights_;
  struct Unpacked {
    ConstTensor source;
    PackedWeight* packed;
    int64_t offset;  // in the packed memory
  };
  std::vector<Unpacked> matrices_;
  int64_t packed_bytes_ = 0;
  absl::Status status_;
};

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
  layer.query_norm = load.OptionalVector(prefix + "attn_q_norm.weight", config.head_dim);
  layer.key_norm = load.OptionalVector(prefix + "attn_k_norm.weight", config.head_dim);
  layer.post_attention_norm = load.OptionalVector(prefix + "post_attention_norm.weight", hidden);
  layer.ffn_norm = load.Vector(prefix + "ffn_norm.weight", hidden);
  load.Matrix(prefix + "ffn_gate", config.ffn_size, hidden, &layer.gate);
  load.Matrix(prefix + "ffn_up", config.ffn_size, hidden, &layer.up);
  load.Matrix(prefix + "ffn_down", hidden, config.ffn_size, &layer.down);
  layer.post_ffn_norm = load.OptionalVector(prefix + "post_ffw_norm.weight", hidden);
}

}  // namespace

absl::StatusOr<Weights> LoadWeights(const ModelFile& file, Device* device, const Kernels& kernels,
                                    DType activations,
                                    const std::function<void(double)>& progress) {
  const ModelConfig& config = file.config();
  WeightLoader load(file, device, kernels, activations);
  Weights& weights = load.weights();
  const int64_t vocab = config.vocab_size, hidden = config.hidden_size;
  // A tied head is the embedding table, which then is read whole by each step.
  if (config.tied_embeddings) {
    load.Matrix("token_embd", vocab, hidden, &weights.head);
  } else {
    load.Table("token_embd", vocab, hidden, &weights.embedding);
    load.Matrix("output", vocab, hidden, &weights.head);
  }
  weights.layers.resize(static_cast<size_t>(config.num_layers));
  for (int i = 0; i < config.num_layers && load.status().ok(); ++i) {
    LoadLayer(config, i, load, weights.layers[static_cast<size_t>(i)]);
  }
  weights.output_norm = load.Vector("output_norm.weight", config.hidden_size);
  load.Pack(progress);
  if (config.tied_embeddings) weights.embedding = weights.head.weight;
  if (!load.status().ok()) return load.status();
  return std::move(weights);
}

}  // namespace pregate
