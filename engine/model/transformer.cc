#include "engine/model/transformer.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <cassert>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "engine/model/activations.h"
#include "engine/model/expert_units.h"
#include "engine/model/ffn.h"
#include "engine/model/step_inputs.h"
#include "engine/model/weights.h"

namespace pregate {
namespace {

// A decoder of the Llama kind: pre-norm attention with rotary positions and a gated FFN or a
// mixture of them, with the additions of Qwen (biases, q/k norms) and Gemma 3 (post-norms, local
// layers) where the model has them.
class Decoder : public Transformer {
 public:
  Decoder(const ModelConfig& config, Device* device, const Kernels* kernels, const Options& options,
          Weights weights, ActivationMemory scratch, DeviceBuffer inv_freq)
      : config_(config),
        device_(*device),
        kernels_(*kernels),
        options_(options),
        weights_(std::move(weights)),
        scratch_(std::move(scratch)),
        inv_freq_(std::move(inv_freq)),
        inputs_(device),
        ffn_(config, device, kernels, options.activations, weights_.memory.experts.get()) {}

  absl::StatusOr<std::unique_ptr<KvStorage>> MakeKv(DType dtype, int32_t block_tokens,
                                                    int32_t num_blocks) override {
    return KvStorage::Create(&device_, config_, dtype, block_tokens, num_blocks);
  }

  absl::StatusOr<Tensor> Forward(const BatchPlan& plan, const KvStorage& kv) override {
    assert(plan.rows() > 0 && plan.rows() <= options_.max_rows);
    assert(plan.logits() <= options_.max_logits);
    inputs_.Load(plan);
    const Activations a = scratch_.all.Narrow(plan.rows(), plan.logits());
    ffn_.StartStep(plan, weights_.layers[0].ffn.num_routed(), a);
    logit_hidden_ = a.head_rows;
    absl::Status status;
    device_.Replay(StepKey(plan, kv), [&] { status = RunLayers(kv, a); });
    if (!status.ok()) return status;
    return a.logits;
  }

  ConstTensor logit_hidden() const override { return logit_hidden_; }

  std::vector<ExpertUnitSize> ExpertUnits() const override {
    if (config_.read_me.num_experts == 0) return {};
    return CountExpertUnits(weights_, kernels_);
  }
  ExpertStore* expert_store() const override { return weights_.memory.experts.get(); }
  const PackedWeight& embedding() const override { return weights_.embedding; }
  int64_t weight_bytes() const override { return weights_.memory.bytes; }
  int64_t num_parameters() const override { return weights_.memory.parameters; }

  double StepBytes(int64_t rows) const override {
    auto bytes = static_cast<double>(weights_.memory.bytes);
    for (const Weights::Routed& routed : weights_.routed) {
      const double idle = std::pow(1.0 - routed.share, static_cast<double>(rows));
      bytes -= idle * static_cast<double>(routed.bytes);
    }
    return bytes;
  }
  double RowParameters() const override {
    auto parameters = static_cast<double>(weights_.memory.parameters);
    for (const Weights::Routed& routed : weights_.routed) {
      parameters -= (1.0 - routed.share) * static_cast<double>(routed.parameters);
    }
    return parameters;
  }

 private:
  absl::Status RunLayers(const KvStorage& kv, const Activations& a) {
    kernels_.embed(device_, weights_.embedding, inputs_.token_ids(), config_.embedding_scale,
                   a.hidden);
    BuildRopeTables(a);
    for (int i = 0; i < config_.num_layers; ++i) {
      const LayerWeights& layer = weights_.layers[static_cast<size_t>(i)];
      Attend(layer, config_.IsLocal(i), kv.Layer(i), a);
      if (absl::Status status = FeedForward(layer, i, a); !status.ok()) return status;
    }
    if (a.logits.rows == 0) return absl::OkStatus();
    kernels_.gather_rows(device_, a.hidden, inputs_.logit_rows(), a.head_rows);
    Norm(a.head_rows, weights_.output_norm, a.head_rows);
    ProjectHead(a);
    return absl::OkStatus();
  }

  // Each rank's rows of the head are columns of the logits, which all come to rank 0.
  void ProjectHead(const Activations& a) {
    Tensor own = a.logits;
    own.cols = weights_.head.weight.rows;
    Project(a.head_rows, {{&weights_.head, own}});
    if (options_.communicator == nullptr) return;
    options_.communicator->GatherColumns(device_, a.logits, config_.shard.head_begin);
  }

  // What a rank's part of a sublayer gives, or all of it, becomes what all parts give together.
  void Reduce(Tensor projected) {
    if (options_.communicator != nullptr) options_.communicator->AllReduceSum(device_, projected);
  }

  // What RunLayers issues for this plan: the same key, the same calls (Device::Replay). Steps in
  // which every sequence has one row come again and again; 0 for all others, and where the plan
  // names experts, whose rows the calls then tell.
  uint64_t StepKey(const BatchPlan& plan, const KvStorage& kv) const {
    if (!plan.expert_ids.empty() || plan.rows() != plan.sequences()) return 0;
    const uint64_t key = absl::HashOf(inputs_.token_ids(), inputs_.attention().max_context,
                                      plan.rows(), plan.logits(), kv.Layer(0).keys);
    return key == 0 ? 1 : key;
  }

  // hidden += PostNorm(W_o Attention(Rope(Norm(W_q x)), Rope(Norm(W_k x)), W_v x)), x =
  // Norm(hidden)
  void Attend(const LayerWeights& layer, bool local, const KvLayerView& kv, const Activations& a) {
    Norm(a.hidden, layer.attention_norm, a.normed);
    Project(a.normed, {{&layer.query, a.query}, {&layer.key, a.key}, {&layer.value, a.value}});
    if (layer.query_norm) NormHeads(a.query, layer.query_norm);
    if (layer.key_norm) NormHeads(a.key, layer.key_norm);

    const ConstTensor rope = local && a.local_rope.cols > 0 ? a.local_rope : a.rope;
    kernels_.rope(device_, a.query, config_.head_dim, rope, config_.rope_style);
    kernels_.rope(device_, a.key, config_.head_dim, rope, config_.rope_style);
    kernels_.kv_append(device_, a.key, a.value, inputs_.kv_slots(), kv);

    AttentionParams params;
    params.num_heads = config_.num_heads;
    params.scale = config_.attention_scale;
    params.window = local ? config_.sliding_window : 0;
    params.soft_cap = config_.attention_soft_cap;
    kernels_.attention(device_, a.query, kv, inputs_.attention(), params, a.attended);

    Project(a.attended, {{&layer.attention_output, a.projected}});
    Reduce(a.projected);
    if (layer.post_attention_norm) Norm(a.projected, layer.post_attention_norm, a.projected);
    kernels_.add(device_, a.hidden, a.projected, a.hidden);
  }

  // hidden += PostNorm(FFN(Norm(hidden)))
  absl::Status FeedForward(const LayerWeights& layer, int32_t index, const Activations& a) {
    Norm(a.hidden, layer.ffn_norm, a.normed);
    if (absl::Status status = ffn_.Run(layer.ffn, index, a); !status.ok()) return status;
    Reduce(a.projected);
    if (layer.post_ffn_norm) Norm(a.projected, layer.post_ffn_norm, a.projected);
    kernels_.add(device_, a.hidden, a.projected, a.hidden);
    return absl::OkStatus();
  }

  void Norm(ConstTensor x, ConstTensor weight, Tensor out) {
    kernels_.rms_norm(device_, x, weight, config_.norm_weight_offset, config_.rms_norm_eps, out);
  }

  // Normalises x [R, heads * head_dim] in place, each head or all together as the weight is wide:
  // what it covers is taken as a row.
  void NormHeads(Tensor x, ConstTensor weight) {
    const Tensor parts = MakeView(x.data, x.dtype, x.rows * x.cols / weight.cols, weight.cols);
    Norm(parts, weight, parts);
  }

  struct Projection {
    const Linear* linear;
    Tensor out;
  };
  // Applies every Linear to the same x, which is quantised once for those that take it so.
  void Project(ConstTensor x, std::initializer_list<Projection> projections) {
    const Tensor quantized =
        MakeView(scratch_.all.quantized.data, options_.activations, x.rows, x.cols);
    absl::InlinedVector<Product, 3> products;
    bool quantize = false;
    for (const auto& [linear, out] : projections) {
      const bool plain = linear->input == DType::kF32;
      quantize |= !plain;
      products.push_back({.x = plain ? x : ConstTensor(quantized),
                          .weight = linear->weight,
                          .bias = linear->bias,
                          .out = out});
    }
    if (quantize) kernels_.quantize_rows(device_, {{x, quantized}});
    kernels_.matmul(device_, products);
  }

  // Once for all layers: angles depend on positions alone.
  void BuildRopeTables(const Activations& a) {
    const float* inv_freq = static_cast<const float*>(inv_freq_.data());
    kernels_.rope_table(device_, inputs_.positions(), inv_freq, config_.rope_magnitude, a.rope);
    if (a.local_rope.cols == 0) return;
    // Local layers never look far: their positions are not scaled, nor is their magnitude.
    kernels_.rope_table(device_, inputs_.positions(), inv_freq + config_.inv_freq.size(), 1.0f,
                        a.local_rope);
  }

  const ModelConfig& config_;
  Device& device_;
  const Kernels& kernels_;
  const Options options_;
  const Weights weights_;
  const ActivationMemory scratch_;
  const DeviceBuffer inv_freq_;  // inv_freq, then local_inv_freq
  StepInputs inputs_;
  ConstTensor logit_hidden_;
  Ffn ffn_;
};

// Loading leaves holes of some megabytes between what stays.
void ReturnFreeMemory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(const ModelFile& file,
                                                                 Device* device,
                                                                 const Kernels* kernels,
                                                                 const Options& options) {
  assert(options.max_rows > 0 && options.max_logits > 0);
  const ModelConfig& config = file.config();
  assert((options.communicator != nullptr) == (config.shard.size > 1));
  if (config.final_logit_soft_cap != 0.0f) {
    return absl::UnimplementedError(
        absl::StrCat("final_logit_softcapping: must be absent; got ", config.final_logit_soft_cap));
  }
  absl::StatusOr<Weights> weights =
      LoadWeights(file, device, *kernels,
                  {options.activations, options.quantization, options.expert_storage,
                   options.expert_memory, options.progress});
  if (!weights.ok()) return weights.status();
  ReturnFreeMemory();
  absl::StatusOr<ActivationMemory> scratch =
      AllocateActivations(config, weights->ffn_shape, device, options.max_rows, options.max_logits);
  if (!scratch.ok()) return scratch.status();

  std::vector<float> frequencies = config.inv_freq;
  frequencies.insert(frequencies.end(), config.local_inv_freq.begin(), config.local_inv_freq.end());
  absl::StatusOr<DeviceBuffer> inv_freq = device->Allocate(frequencies.size() * sizeof(float));
  if (!inv_freq.ok()) return inv_freq.status();
  device->CopyToDevice(inv_freq->data(), frequencies.data(), inv_freq->size());
  return std::make_unique<Decoder>(config, device, kernels, options, *std::move(weights),
                                   *std::move(scratch), *std::move(inv_freq));
}

}  // namespace pregate
