#include "engine/model/expert_router.h"

#include <array>
#include <cassert>
#include <cmath>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "engine/model/linear.h"
#include "engine/model/step_inputs.h"
#include "engine/model/weight_loader.h"

namespace pregate {
namespace {

constexpr float kNormEps = 1e-6f;

// One block: attention without grouping, then two matrices with an activation between them.
struct RouterLayer {
  ConstTensor input_norm;            // [1, E]; none where nothing attends
  Linear query, key, value, output;  // [E, E]
  ConstTensor post_norm;             // [1, E]
  Linear expand, contract;           // proj_1, proj_2 [E, E]
};

struct RouterWeights {
  PackedWeight embedding;  // [vocab, E], or the model's [vocab, H]
  std::vector<RouterLayer> layers;
  ConstTensor output_norm;  // [1, E]
  Linear head;              // [experts, E]
  LoadedMemory memory;
};

absl::StatusOr<RouterWeights> LoadRouter(const ModelFile& file, Device* device,
                                         const Kernels& kernels, const PackedWeight& embedding) {
  const ReadMeConfig& config = file.config().read_me;
  const int64_t width = config.embedding_dim;
  RouterWeights weights;
  WeightLoader load(file, device, kernels, DType::kF32);
  const auto name = [](const std::string& part) { return kRouterPrefix + part; };
  if (config.frozen_embedding) {
    weights.embedding = embedding;
  } else {
    load.Table(name("embed"), file.config().vocab_size, width, &weights.embedding);
  }
  weights.layers.resize(static_cast<size_t>(config.num_layers));
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    RouterLayer& layer = weights.layers[i];
    const auto square = [&](const std::string& part, Linear* linear) {
      load.Matrix(name(absl::StrCat(part, "_", i)), width, width, linear);
    };
    if (config.attends) {
      layer.input_norm = load.Vector(name(absl::StrCat("input_layernorm_", i, ".weight")), width);
      square("q_proj", &layer.query);
      square("k_proj", &layer.key);
      square("v_proj", &layer.value);
      square("o_proj", &layer.output);
    }
    layer.post_norm =
        load.Vector(name(absl::StrCat("post_attention_layernorm_", i, ".weight")), width);
    square("proj_1", &layer.expand);
    square("proj_2", &layer.contract);
  }
  weights.output_norm = load.Vector(name("out_layernorm.weight"), width);
  load.Matrix(name("proj_out"), config.num_experts, width, &weights.head);
  load.Pack({}, {});
  if (!load.status().ok()) return load.status();
  weights.memory = std::move(load.memory());
  return weights;
}

// Tensors of a plan, allocated once for the largest.
struct RouterScratch {
  Tensor embedded;           // [R, E], or [R, H] where the embedding is the model's
  Tensor normed, mixed;      // [R, E]
  Tensor query, key, value;  // [R, E]
  Tensor rope;               // [R, head_dim]
  Tensor logits;             // [R, experts]
  Tensor ids;                // [R, 1] kI32
  Tensor weights;            // [R, 1] of the chosen experts, which nobody asks for
  std::vector<DeviceBuffer> memory;

  std::array<Tensor*, 10> All() {
    return {&embedded, &normed, &mixed, &query, &key, &value, &rope, &logits, &ids, &weights};
  }
};

absl::StatusOr<RouterScratch> AllocateScratch(const ReadMeConfig& config, int64_t embedded_width,
                                              Device* device, int32_t max_rows) {
  RouterScratch scratch;
  const int64_t width = config.embedding_dim;
  const int64_t cols[] = {embedded_width,     width, width, width, width, width, config.head_dim(),
                          config.num_experts, 1,     1};
  const int64_t* next = cols;
  for (Tensor* tensor : scratch.All()) {
    const DType dtype = tensor == &scratch.ids ? DType::kI32 : DType::kF32;
    absl::StatusOr<DeviceBuffer> buffer =
        device->Allocate(static_cast<size_t>(max_rows * RowBytes(dtype, *next)));
    if (!buffer.ok()) return buffer.status();
    *tensor = MakeView(buffer->data(), dtype, max_rows, *next++);
    scratch.memory.push_back(*std::move(buffer));
  }
  return scratch;
}

class RouterNetwork : public ExpertRouter {
 public:
  RouterNetwork(const ReadMeConfig& config, Device* device, const Kernels* kernels,
                RouterWeights weights, RouterScratch scratch, DeviceBuffer inv_freq)
      : config_(config),
        device_(*device),
        kernels_(*kernels),
        weights_(std::move(weights)),
        scratch_(std::move(scratch)),
        inv_freq_(std::move(inv_freq)),
        inputs_(device) {}

  void Route(const BatchPlan& plan, const KvStorage& kv,
             std::vector<int32_t>* expert_ids) override {
    assert(plan.rows() > 0);
    inputs_.Load(plan);
    for (Tensor* tensor : scratch_.All()) tensor->rows = plan.rows();
    kernels_.embed(device_, weights_.embedding, inputs_.token_ids(), 1.0f, scratch_.embedded);
    hidden_ = scratch_.embedded;
    hidden_.cols = config_.embedding_dim;
    if (config_.attends) {
      kernels_.rope_table(device_, inputs_.positions(), static_cast<const float*>(inv_freq_.data()),
                          1.0f, scratch_.rope);
    }
    for (size_t i = 0; i < weights_.layers.size(); ++i) {
      const RouterLayer& layer = weights_.layers[i];
      if (config_.attends) Attend(layer, kv.RouterLayer(static_cast<int>(i)));
      Transform(layer);
    }
    Norm(weights_.output_norm);
    Project(scratch_.normed, {{&weights_.head, scratch_.logits}});
    kernels_.top_k_gate(device_, scratch_.logits, {}, GateParams{}, scratch_.ids.Row<int32_t>(0),
                        scratch_.weights.Row<float>(0));
    expert_ids->resize(static_cast<size_t>(plan.rows()));
    device_.CopyToHost(expert_ids->data(), scratch_.ids.data, expert_ids->size() * sizeof(int32_t));
  }

  ConstTensor logits() const override { return scratch_.logits; }
  int64_t weight_bytes() const override { return weights_.memory.bytes; }
  int64_t num_parameters() const override { return weights_.memory.parameters; }

 private:
  // hidden += W_o Attention(Rope(W_q x), Rope(W_k x), W_v x), x = Norm(hidden)
  void Attend(const RouterLayer& layer, const KvLayerView& kv) {
    Norm(layer.input_norm);
    Project(scratch_.normed, {{&layer.query, scratch_.query},
                              {&layer.key, scratch_.key},
                              {&layer.value, scratch_.value}});
    for (const Tensor& rotated : {scratch_.query, scratch_.key}) {
      kernels_.rope(device_, rotated, config_.head_dim(), scratch_.rope, RopeStyle::kHalves);
    }
    kernels_.kv_append(device_, scratch_.key, scratch_.value, inputs_.kv_slots(), kv);
    AttentionParams params;
    params.num_heads = config_.num_heads;
    params.scale = 1.0f / config_.normalizer;
    kernels_.attention(device_, scratch_.query, kv, inputs_.attention(), params, scratch_.mixed);
    Project(scratch_.mixed, {{&layer.output, scratch_.normed}});
    kernels_.add(device_, hidden_, scratch_.normed, hidden_);
  }

  // hidden += W_2 activation(W_1 Norm(hidden))
  void Transform(const RouterLayer& layer) {
    Norm(layer.post_norm);
    Project(scratch_.normed, {{&layer.expand, scratch_.mixed}});
    const GatedRows rows{scratch_.mixed, {}, {}, scratch_.mixed};
    kernels_.gated_activation(device_, config_.activation, {&rows, 1});
    Project(scratch_.mixed, {{&layer.contract, scratch_.normed}});
    kernels_.add(device_, hidden_, scratch_.normed, hidden_);
  }

  // normed = Norm(hidden)
  void Norm(ConstTensor weight) {
    kernels_.rms_norm(device_, hidden_, weight, 0.0f, kNormEps, scratch_.normed);
  }

  struct Projection {
    const Linear* linear;
    Tensor out;
  };
  void Project(ConstTensor x, std::initializer_list<Projection> projections) {
    absl::InlinedVector<Product, 3> products;
    for (const auto& [linear, out] : projections) {
      Product& product = products.emplace_back();
      product.x = x;
      product.weight = linear->weight;
      product.bias = linear->bias;
      product.out = out;
    }
    kernels_.matmul(device_, products);
  }

  const ReadMeConfig& config_;
  Device& device_;
  const Kernels& kernels_;
  const RouterWeights weights_;
  RouterScratch scratch_;
  Tensor hidden_;  // [R, E] the residual stream: the first columns of scratch_.embedded
  const DeviceBuffer inv_freq_;  // [head_dim / 2]
  StepInputs inputs_;
};

// The model's own base, unscaled, whatever stretches its contexts.
absl::StatusOr<DeviceBuffer> UploadFrequencies(const ModelConfig& config, Device* device) {
  std::vector<float> inv_freq;
  const int32_t head_dim = config.read_me.head_dim();
  for (int32_t i = 0; i < head_dim / 2; ++i) {
    inv_freq.push_back(static_cast<float>(std::pow(config.rope_theta, -2.0 * i / head_dim)));
  }
  absl::StatusOr<DeviceBuffer> buffer = device->Allocate(inv_freq.size() * sizeof(float));
  if (buffer.ok()) device->CopyToDevice(buffer->data(), inv_freq.data(), buffer->size());
  return buffer;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExpertRouter>> ExpertRouter::Create(const ModelFile& file,
                                                                   Device* device,
                                                                   const Kernels* kernels,
                                                                   const PackedWeight& embedding,
                                                                   int32_t max_rows) {
  const ReadMeConfig& config = file.config().read_me;
  assert(config.num_experts > 0 && max_rows > 0);
  absl::StatusOr<RouterWeights> weights = LoadRouter(file, device, *kernels, embedding);
  if (!weights.ok()) return weights.status();
  absl::StatusOr<RouterScratch> scratch =
      AllocateScratch(config, weights->embedding.cols, device, max_rows);
  if (!scratch.ok()) return scratch.status();
  absl::StatusOr<DeviceBuffer> inv_freq = UploadFrequencies(file.config(), device);
  if (!inv_freq.ok()) return inv_freq.status();
  return std::make_unique<RouterNetwork>(config, device, kernels, *std::move(weights),
                                         *std::move(scratch), *std::move(inv_freq));
}

}  // namespace pregate
