#include "engine/model/encoder.h"

#include <algorithm>
#include <cassert>
#include <initializer_list>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "engine/model/encoder_weights.h"

namespace pregate {
namespace {

// The scratch of a step. R rows, T texts.
struct EncoderScratch {
  Tensor hidden, added;        // [R, H] the stream, and what a sublayer adds to it
  Tensor query, key, value;    // [R, H]
  Tensor neurons;              // [R, F]
  Tensor quantized;            // kQ16Act: what one product reads
  Tensor pooled, head, score;  // [T, H], [T, H], [T, 1]
  DeviceBuffer memory;
};

absl::StatusOr<EncoderScratch> AllocateScratch(const ModelConfig& config, Device* device,
                                               int64_t rows, int64_t texts) {
  const int64_t hidden = config.hidden_size, ffn = config.ffn_size;
  EncoderScratch scratch;
  const int64_t widest = (std::max(hidden, ffn) + 31) / 32 * 32;
  struct Part {
    Tensor* tensor;
    DType dtype;
    int64_t rows, cols;
  };
  const Part parts[] = {
      {&scratch.hidden, DType::kF32, rows, hidden},
      {&scratch.added, DType::kF32, rows, hidden},
      {&scratch.query, DType::kF32, rows, hidden},
      {&scratch.key, DType::kF32, rows, hidden},
      {&scratch.value, DType::kF32, rows, hidden},
      {&scratch.neurons, DType::kF32, rows, ffn},
      {&scratch.quantized, DType::kQ16Act, rows, widest},
      {&scratch.pooled, DType::kF32, texts, hidden},
      {&scratch.head, DType::kF32, texts, hidden},
      {&scratch.score, DType::kF32, texts, 1},
  };
  constexpr int64_t kAlignment = 64;
  const auto bytes_of = [](const Part& part) {
    return (part.rows * RowBytes(part.dtype, part.cols) + kAlignment - 1) / kAlignment * kAlignment;
  };
  int64_t total = 0;
  for (const Part& part : parts) total += bytes_of(part);
  absl::StatusOr<DeviceBuffer> memory = device->Allocate(static_cast<size_t>(total));
  if (!memory.ok()) return memory.status();
  scratch.memory = *std::move(memory);
  char* next = static_cast<char*>(scratch.memory.data());
  for (const Part& part : parts) {
    *part.tensor = MakeView(static_cast<void*>(next), part.dtype, part.rows, part.cols);
    next += bytes_of(part);
  }
  return scratch;
}

// The arrays of a batch that kernels read, in device memory.
class BatchInputs {
 public:
  // As many elements as any batch needs.
  static absl::StatusOr<BatchInputs> Create(Device* device, int32_t max_rows) {
    const auto rows = static_cast<size_t>(max_rows);
    absl::StatusOr<DeviceBuffer> memory = device->Allocate(rows * 5 * sizeof(int32_t));
    if (!memory.ok()) return memory.status();
    BatchInputs inputs;
    inputs.device_ = device;
    inputs.max_rows_ = rows;
    inputs.memory_ = *std::move(memory);
    return inputs;
  }

  void Load(const EncoderBatch& batch, int32_t first_position, bool typed) {
    const auto rows = static_cast<size_t>(batch.rows());
    std::vector<int32_t> positions(rows), numbers(rows);
    std::vector<float> shares(rows);
    for (int32_t text = 0; text < batch.texts(); ++text) {
      const auto at = static_cast<size_t>(text);
      const int32_t begin = batch.row_start[at], end = batch.row_start[at + 1];
      for (int32_t row = begin; row < end; ++row) {
        const auto index = static_cast<size_t>(row);
        positions[index] = first_position + row - begin;
        numbers[index] = row;
        const bool mean = batch.pooling[at] == Pooling::kMean;
        shares[index] = mean ? 1.0f / static_cast<float>(end - begin) : 1.0f;
      }
    }
    Put(0, batch.token_ids.data(), rows);
    Put(1, positions.data(), rows);
    if (typed) {
      Put(2, batch.token_types.data(), rows);
    } else {
      const std::vector<int32_t> first(rows, 0);
      Put(2, first.data(), rows);
    }
    Put(3, numbers.data(), rows);
    Put(4, shares.data(), rows);
  }

  const int32_t* token_ids() const { return Part(0); }
  const int32_t* positions() const { return Part(1); }
  const int32_t* token_types() const { return Part(2); }
  const int32_t* numbers() const { return Part(3); }  // 0, 1, 2, ...
  // What a row counts in its text's vector, if it is one of those that count.
  const float* shares() const { return reinterpret_cast<const float*>(Part(4)); }

 private:
  const int32_t* Part(size_t index) const {
    return static_cast<const int32_t*>(memory_.data()) + index * max_rows_;
  }
  void Put(size_t index, const void* from, size_t count) {
    device_->CopyToDevice(static_cast<int32_t*>(memory_.data()) + index * max_rows_, from,
                          count * sizeof(int32_t));
  }

  Device* device_ = nullptr;
  size_t max_rows_ = 0;
  DeviceBuffer memory_;
};

class BertEncoder : public Encoder {
 public:
  BertEncoder(const ModelConfig& config, Device* device, const Kernels* kernels,
              const Options& options, EncoderWeights weights, EncoderScratch scratch,
              BatchInputs inputs)
      : config_(config),
        device_(*device),
        kernels_(*kernels),
        options_(options),
        weights_(std::move(weights)),
        scratch_(std::move(scratch)),
        inputs_(std::move(inputs)) {}

  Tensor Forward(const EncoderBatch& batch) override {
    assert(batch.rows() > 0 && batch.rows() <= options_.max_rows);
    assert(batch.texts() > 0 && batch.texts() <= options_.max_texts);
    rows_ = batch.rows();
    inputs_.Load(batch, config_.encoder.first_position, config_.encoder.num_token_types > 1);
    Embed();
    for (const EncoderLayer& layer : weights_.layers) {
      Attend(layer, batch.row_start);
      FeedForward(layer);
    }
    const Tensor pooled = Pool(batch);
    return config_.encoder.scores ? Score(pooled) : pooled;
  }

  int64_t weight_bytes() const override { return weights_.memory.bytes; }
  int64_t num_parameters() const override { return weights_.memory.parameters; }
  int64_t row_parameters() const override {
    const int64_t hidden = config_.hidden_size, ffn = config_.ffn_size;
    return config_.num_layers * (4 * hidden * hidden + 2 * hidden * ffn);
  }

 private:
  Tensor Rows(Tensor all) const {
    all.rows = rows_;
    return all;
  }

  // hidden = Norm(token + position + token type)
  void Embed() {
    const Tensor hidden = Rows(scratch_.hidden), added = Rows(scratch_.added);
    kernels_.embed(device_, weights_.tokens, inputs_.token_ids(), 1.0f, hidden);
    kernels_.embed(device_, weights_.token_types, inputs_.token_types(), 1.0f, added);
    kernels_.add(device_, hidden, added, hidden);
    kernels_.embed(device_, weights_.positions, inputs_.positions(), 1.0f, added);
    AddAndNorm(added, weights_.embedding_norm);
  }

  // hidden = Norm(hidden + W_o Attention(W_q hidden, W_k hidden, W_v hidden))
  void Attend(const EncoderLayer& layer, const std::vector<int32_t>& row_start) {
    const Tensor hidden = Rows(scratch_.hidden), added = Rows(scratch_.added);
    const Tensor query = Rows(scratch_.query), key = Rows(scratch_.key);
    const Tensor value = Rows(scratch_.value);
    Project(hidden, {{&layer.query, query}, {&layer.key, key}, {&layer.value, value}});
    kernels_.self_attention(device_, {.q = query,
                                      .k = key,
                                      .v = value,
                                      .row_start = row_start,
                                      .num_heads = config_.num_heads,
                                      .scale = config_.attention_scale,
                                      .out = added});
    Project(added, {{&layer.attention_output, query}});
    AddAndNorm(query, layer.attention_norm);
  }

  // hidden = Norm(hidden + W_down activation(W_up hidden))
  void FeedForward(const EncoderLayer& layer) {
    const Tensor hidden = Rows(scratch_.hidden), added = Rows(scratch_.added);
    const Tensor neurons = Rows(scratch_.neurons);
    Project(hidden, {{&layer.up, neurons}});
    kernels_.gated_activation(device_, config_.activation, {{neurons, {}, {}, neurons}});
    Project(neurons, {{&layer.down, added}});
    AddAndNorm(added, layer.output_norm);
  }

  void AddAndNorm(ConstTensor added, const LayerNormWeights& norm) {
    const Tensor hidden = Rows(scratch_.hidden);
    kernels_.layer_norm(device_, hidden, added, norm.weight, norm.bias,
                        config_.encoder.layer_norm_eps, hidden);
  }

  // Each text's vector: its first row, its last, or the mean of all. A cross-encoder reads the
  // first.
  Tensor Pool(const EncoderBatch& batch) {
    Tensor pooled = scratch_.pooled;
    pooled.rows = batch.texts();
    for (int32_t text = 0; text < batch.texts(); ++text) {
      const auto at = static_cast<size_t>(text);
      const Pooling how = config_.encoder.scores ? Pooling::kCls : batch.pooling[at];
      const int32_t begin = batch.row_start[at], end = batch.row_start[at + 1];
      const int32_t first = how == Pooling::kLast ? end - 1 : begin;
      const int32_t count = how == Pooling::kMean ? end - begin : 1;
      Tensor vector = pooled;
      vector.data = pooled.Row<float>(text);
      vector.rows = 1;
      const float* shares = how == Pooling::kMean ? inputs_.shares() + first : nullptr;
      kernels_.combine_rows(device_, Rows(scratch_.hidden), inputs_.numbers() + first, shares,
                            count, vector);
    }
    return pooled;
  }

  // w . tanh(W pooled + b) + c
  Tensor Score(ConstTensor pooled) {
    Tensor head = scratch_.head, score = scratch_.score;
    head.rows = score.rows = pooled.rows;
    Project(pooled, {{&weights_.head, head}});
    kernels_.gated_activation(device_, Activation::kTanh, {{head, {}, {}, head}});
    Project(head, {{&weights_.score, score}});
    return score;
  }

  struct Projection {
    const Linear* linear;
    Tensor out;
  };
  // Applies every Linear to the same x, which is quantised once for those that take it so.
  void Project(ConstTensor x, std::initializer_list<Projection> projections) {
    absl::InlinedVector<Product, 3> products;
    Tensor quantized = {};
    for (const auto& [linear, out] : projections) {
      const bool plain = linear->input == DType::kF32;
      if (!plain) quantized = MakeView(scratch_.quantized.data, linear->input, x.rows, x.cols);
      products.push_back({.x = plain ? x : ConstTensor(quantized),
                          .weight = linear->weight,
                          .bias = linear->bias,
                          .out = out});
    }
    if (quantized) kernels_.quantize_rows(device_, {{x, quantized}});
    kernels_.matmul(device_, products);
  }

  const ModelConfig& config_;
  Device& device_;
  const Kernels& kernels_;
  const Options options_;
  const EncoderWeights weights_;
  const EncoderScratch scratch_;
  BatchInputs inputs_;
  int64_t rows_ = 0;  // of the batch in hand
};

EncoderWeightOptions WeightOptionsOf(const Encoder::Options& options) {
  switch (options.precision) {
    case Encoder::Precision::kFile:
      return {DType::kF32, DType::kF32, options.progress};
    case Encoder::Precision::kQ13:
      return {DType::kQ13, DType::kQ16Act, options.progress};
    case Encoder::Precision::kInt8:
      break;
  }
  return {DType::kQ8_0, DType::kQ8Act, options.progress};
}

}  // namespace

void EncoderBatch::Add(const std::vector<int32_t>& ids, int32_t second_begin, Pooling how) {
  for (size_t i = 0; i < ids.size(); ++i) {
    token_ids.push_back(ids[i]);
    token_types.push_back(second_begin > 0 && i >= static_cast<size_t>(second_begin) ? 1 : 0);
  }
  row_start.push_back(static_cast<int32_t>(token_ids.size()));
  pooling.push_back(how);
}

absl::StatusOr<std::unique_ptr<Encoder>> Encoder::Create(const ModelFile& file, Device* device,
                                                         const Kernels* kernels,
                                                         const Options& options) {
  assert(file.config().encoder.present && options.max_rows > 0 && options.max_texts > 0);
  const ModelConfig& config = file.config();
  absl::StatusOr<EncoderWeights> weights =
      LoadEncoderWeights(file, device, *kernels, WeightOptionsOf(options));
  if (!weights.ok()) return weights.status();
  absl::StatusOr<EncoderScratch> scratch =
      AllocateScratch(config, device, options.max_rows, options.max_texts);
  if (!scratch.ok()) return scratch.status();
  absl::StatusOr<BatchInputs> inputs = BatchInputs::Create(device, options.max_rows);
  if (!inputs.ok()) return inputs.status();
  return std::make_unique<BertEncoder>(config, device, kernels, options, *std::move(weights),
                                       *std::move(scratch), *std::move(inputs));
}

}  // namespace pregate
