#include "engine/model/encoder_weights.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/quant/dequantize.h"
#include "kernels/quant/quantize_weights.h"

namespace pregate {
namespace {

// Writes the rows of a matrix of floats as `dtype`, densely packed.
void QuantizeMatrix(ConstTensor source, DType dtype, char* out) {
  std::vector<float> row(static_cast<size_t>(source.cols));
  for (int64_t r = 0; r < source.rows; ++r, out += RowBytes(dtype, source.cols)) {
    DequantizeRow(source.dtype, source.Row<char>(r), source.cols, row.data());
    QuantizeRow(dtype, row.data(), source.cols, out);
  }
}

class EncoderLoader {
 public:
  EncoderLoader(const ModelFile& file, Device* device, const Kernels& kernels,
                const EncoderWeightOptions& options)
      : file_(file), options_(options), load_(file, device, kernels, options.activations) {}

  WeightLoader& load() { return load_; }

  // A matrix of a layer with its bias.
  void Matrix(const std::string& name, int64_t out, int64_t in, Linear* linear) {
    const ConstTensor source = file_.Find(name + ".weight");
    const DType dtype = options_.matrices;
    const bool quantizes = source && IsPlain(source.dtype) && dtype != DType::kF32 &&
                           source.rows == out && source.cols == in &&
                           in % GetDTypeInfo(dtype).block_elements == 0;
    if (!quantizes) return load_.Matrix(name, out, in, linear);
    load_.Built(dtype, out, in, /*by_tiles=*/false, linear, [this, source, dtype](char* rows) {
      QuantizeMatrix(source, dtype, rows);
      file_.Release(source);
    });
    load_.memory().parameters += out * in;
    linear->bias = load_.OptionalVector(name + ".bias", out).Row<float>(0);
  }

  LayerNormWeights Norm(const std::string& name, int64_t size) {
    return {load_.Vector(name + ".weight", size), load_.Vector(name + ".bias", size)};
  }

 private:
  const ModelFile& file_;
  const EncoderWeightOptions& options_;
  WeightLoader load_;
};

void LoadLayer(const ModelConfig& config, int index, EncoderLoader& loader, EncoderLayer& layer) {
  const std::string prefix = absl::StrCat("blk.", index, ".");
  const int64_t hidden = config.hidden_size, ffn = config.ffn_size;
  loader.Matrix(prefix + "attn_q", hidden, hidden, &layer.query);
  loader.Matrix(prefix + "attn_k", hidden, hidden, &layer.key);
  loader.Matrix(prefix + "attn_v", hidden, hidden, &layer.value);
  loader.Matrix(prefix + "attn_output", hidden, hidden, &layer.attention_output);
  layer.attention_norm = loader.Norm(prefix + "attn_output_norm", hidden);
  loader.Matrix(prefix + "ffn_up", ffn, hidden, &layer.up);
  loader.Matrix(prefix + "ffn_down", hidden, ffn, &layer.down);
  layer.output_norm = loader.Norm(prefix + "layer_output_norm", hidden);
}

// Once for each text: it stays in floats.
void LoadHead(int64_t hidden, WeightLoader& load, EncoderWeights& weights) {
  load.Gate("cls", hidden, hidden, &weights.head);
  weights.head.bias = load.Vector("cls.bias", hidden).Row<float>(0);
  load.Gate("cls.output", 1, hidden, &weights.score);
  weights.score.bias = load.Vector("cls.output.bias", 1).Row<float>(0);
}

}  // namespace

absl::StatusOr<EncoderWeights> LoadEncoderWeights(const ModelFile& file, Device* device,
                                                  const Kernels& kernels,
                                                  const EncoderWeightOptions& options) {
  const ModelConfig& config = file.config();
  EncoderLoader loader(file, device, kernels, options);
  WeightLoader& load = loader.load();
  EncoderWeights weights;
  const int64_t hidden = config.hidden_size;
  load.Table("token_embd", config.vocab_size, hidden, &weights.tokens);
  load.Table("position_embd", config.encoder.num_positions, hidden, &weights.positions);
  load.Table("token_types", config.encoder.num_token_types, hidden, &weights.token_types);
  weights.embedding_norm = loader.Norm("token_embd_norm", hidden);
  weights.layers.resize(static_cast<size_t>(config.num_layers));
  for (int i = 0; i < config.num_layers && load.status().ok(); ++i) {
    LoadLayer(config, i, loader, weights.layers[static_cast<size_t>(i)]);
  }
  if (config.encoder.scores) LoadHead(hidden, load, weights);
  load.Pack({}, options.progress);
  if (!load.status().ok()) return load.status();
  weights.memory = std::move(load.memory());
  return weights;
}

}  // namespace pregate
