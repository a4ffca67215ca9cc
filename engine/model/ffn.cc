#include "engine/model/ffn.h"

#include <algorithm>
#include <cassert>

#include "absl/container/inlined_vector.h"

namespace pregate {
namespace {

Tensor Rows(Tensor tensor, int64_t first, int64_t count) {
  tensor.data = tensor.Row<char>(first);
  tensor.rows = count;
  return tensor;
}

Tensor Columns(Tensor tensor, int64_t first, int64_t count) {
  tensor.data = tensor.Row<float>(0) + first;
  tensor.cols = count;
  return tensor;
}

int64_t PartWidth(const FfnWeights& ffn, const ExpertPart& part) {
  return part.tiles.empty() ? ffn.blocks[static_cast<size_t>(part.block)].gate.weight.rows
                            : 32 * static_cast<int64_t>(part.tiles.size());
}

}  // namespace

void RowsByExpert::Sort(absl::Span<const int32_t> ids, int32_t per_row, int32_t num_experts) {
  k = per_row;
  start.assign(static_cast<size_t>(num_experts) + 1, 0);
  rows.resize(ids.size());
  positions.resize(ids.size());
  for (const int32_t id : ids) ++start[static_cast<size_t>(id) + 1];
  for (size_t e = 1; e < start.size(); ++e) start[e] += start[e - 1];
  for (size_t i = 0; i < ids.size(); ++i) {  // start[e] runs to the end of e
    positions[i] = start[static_cast<size_t>(ids[i])]++;
    rows[static_cast<size_t>(positions[i])] = static_cast<int32_t>(i) / k;
  }
  std::copy_backward(start.begin(), start.end() - 1, start.end());
  start[0] = 0;
}

void Ffn::StartStep(const BatchPlan& plan, int32_t num_experts, const Activations& a) {
  if (plan.expert_ids.empty()) return;
  assert(plan.expert_ids.size() == plan.token_ids.size());
  sorted_.Sort(plan.expert_ids, 1, num_experts);
  Upload(sorted_.positions, a);
}

absl::Status Ffn::Run(const FfnWeights& ffn, int32_t layer, const Activations& a) {
  groups_.clear();
  neurons_ = 0;
  if (ffn.dense()) {
    AddGroup(ffn.experts[0], a.normed, a.projected, a);
    RunGroups(ffn, a);
    return absl::OkStatus();
  }
  if (store_ != nullptr) {
    if (absl::Status status = AwaitExperts(layer); !status.ok()) return status;
  }
  RunExperts(ffn, a);
  if (store_ != nullptr) store_->LayerRan(layer);
  return absl::OkStatus();
}

// Waits for what the plan's experts have in this layer; the layers after it come meanwhile.
absl::Status Ffn::AwaitExperts(int32_t layer) {
  for (int32_t e = 0; e + 1 < static_cast<int32_t>(sorted_.start.size()); ++e) {
    const auto i = static_cast<size_t>(e);
    if (sorted_.start[i] == sorted_.start[i + 1]) continue;
    if (absl::Status status = store_->Await(e, layer); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// Every expert for its rows, then for each row the sum of its experts.
void Ffn::RunExperts(const FfnWeights& ffn, const Activations& a) {
  if (ffn.gate) ChooseExperts(ffn, a);
  const int64_t rows = a.normed.rows, sorted = static_cast<int64_t>(sorted_.rows.size());
  // One row needs no copies of itself.
  const Tensor gathered = rows == 1 ? a.normed : Rows(a.gathered, 0, sorted);
  if (rows > 1) {
    kernels_.gather_rows(device_, a.normed, static_cast<const int32_t*>(a.sorted_rows.data),
                         gathered);
  }
  for (int32_t e = 0; e < ffn.num_routed(); ++e) {
    const int32_t first = sorted_.start[static_cast<size_t>(e)];
    const int32_t count = sorted_.start[static_cast<size_t>(e) + 1] - first;
    if (count == 0) continue;
    AddGroup(ffn.experts[static_cast<size_t>(e)],
             rows == 1 ? a.normed : Rows(gathered, first, count), Rows(a.mixed, first, count), a);
  }
  int32_t per_row = sorted_.k;
  const auto* weights = ffn.gate ? static_cast<const float*>(a.expert_weights.data) : nullptr;
  if (ffn.shared_expert >= 0) {
    AddGroup(ffn.experts[static_cast<size_t>(ffn.shared_expert)], a.normed,
             Rows(a.mixed, sorted, rows), a);
    ++per_row;
    weights = static_cast<const float*>(a.mixed_weights.data);
  }
  RunGroups(ffn, a);
  kernels_.combine_rows(device_, a.mixed, static_cast<const int32_t*>(a.mixed_positions.data),
                        weights, per_row, a.projected);
}

// Asks the gate of the layer and sorts the rows by its answer.
void Ffn::ChooseExperts(const FfnWeights& ffn, const Activations& a) {
  const int64_t rows = a.normed.rows;
  const GateParams& gate = config_.mixture.gate;
  const Tensor logits = MakeView(a.gate_logits.data, DType::kF32, rows, ffn.gate.weight.rows);
  products_ = {{.x = a.normed, .weight = ffn.gate.weight, .out = logits}};
  if (ffn.shared_gate) {
    products_.push_back({.x = a.normed, .weight = ffn.shared_gate.weight, .out = a.shared_logits});
  }
  kernels_.matmul(device_, products_);
  auto* const ids = static_cast<int32_t*>(a.expert_ids.data);
  kernels_.top_k_gate(device_, logits, gate, ids, static_cast<float*>(a.expert_weights.data));
  chosen_.resize(static_cast<size_t>(rows * gate.k));
  device_.CopyToHost(chosen_.data(), ids, chosen_.size() * sizeof(int32_t));
  // Here the layer's demand becomes known, and not before. A store of experts that do not all fit
  // is told of it at this point, by a callback (layer, ids, rows), and awaited in RunExperts before
  // the groups that need what it loads.
  sorted_.Sort(chosen_, gate.k, ffn.num_routed());
  if (ffn.shared_expert >= 0) {
    UploadWithShared(ffn, a);
  } else {
    Upload(sorted_.positions, a);
  }
}

// Puts the shared expert behind the others of each row; its rows stand behind theirs, in order.
void Ffn::UploadWithShared(const FfnWeights& ffn, const Activations& a) {
  const auto rows = static_cast<size_t>(a.normed.rows), k = static_cast<size_t>(sorted_.k);
  std::vector<float> routed(rows * k), shared(rows, 1.0f);
  device_.CopyToHost(routed.data(), a.expert_weights.data, routed.size() * sizeof(float));
  if (ffn.shared_gate) {
    const GateParams sigmoid = {.k = 1, .scoring = GateParams::Scoring::kSigmoid};
    kernels_.top_k_gate(device_, a.shared_logits, sigmoid, static_cast<int32_t*>(a.expert_ids.data),
                        static_cast<float*>(a.expert_weights.data));
    device_.CopyToHost(shared.data(), a.expert_weights.data, rows * sizeof(float));
  }
  std::vector<int32_t> positions;
  std::vector<float> weights;
  for (size_t r = 0; r < rows; ++r) {
    positions.insert(positions.end(), &sorted_.positions[r * k], &sorted_.positions[r * k] + k);
    positions.push_back(static_cast<int32_t>(rows * k + r));
    weights.insert(weights.end(), &routed[r * k], &routed[r * k] + k);
    weights.push_back(shared[r]);
  }
  Upload(positions, a);
  device_.CopyToDevice(a.mixed_weights.data, weights.data(), weights.size() * sizeof(float));
}

void Ffn::Upload(absl::Span<const int32_t> positions, const Activations& a) {
  device_.CopyToDevice(a.sorted_rows.data, sorted_.rows.data(),
                       sorted_.rows.size() * sizeof(int32_t));
  device_.CopyToDevice(a.mixed_positions.data, positions.data(),
                       positions.size() * sizeof(int32_t));
}

void Ffn::AddGroup(const Expert& expert, ConstTensor x, Tensor out, const Activations& a) {
  Group group = {.expert = &expert, .x = x, .out = out};
  const auto neurons = [&](Tensor memory) {
    return MakeView(memory.Row<float>(0) + neurons_, DType::kF32, x.rows, expert.width);
  };
  group.hidden = neurons(a.gate);
  group.up = neurons(a.up);
  neurons_ += x.rows * expert.width;
  groups_.push_back(group);
}

// out = W_down (act(W_gate x) * W_up x) of each group.
void Ffn::RunGroups(const FfnWeights& ffn, const Activations& a) {
  Expand(ffn, a);
  gated_.clear();
  for (const Group& group : groups_) {
    gated_.push_back({group.hidden, group.up, group.expert->owned, group.hidden});
  }
  kernels_.gated_activation(device_, config_.activation, gated_);
  Contract(ffn, a);
}

void Ffn::Expand(const FfnWeights& ffn, const Activations& a) {
  products_.clear();
  operands_.clear();
  operand_bytes_ = 0;
  for (const Group& group : groups_) {
    int64_t first = 0;  // neuron of the expert
    for (const ExpertPart& part : group.expert->parts) {
      const NeuronBlock& block = ffn.blocks[static_cast<size_t>(part.block)];
      const int64_t width = PartWidth(ffn, part);
      products_.push_back({.x = Operand(block.gate, group.x, a),
                           .weight = block.gate.weight,
                           .out_tiles = part.tiles,
                           .bias = block.gate.bias,
                           .out = Columns(group.hidden, first, width)});
      products_.push_back({.x = Operand(block.up, group.x, a),
                           .weight = block.up.weight,
                           .out_tiles = part.tiles,
                           .bias = block.up.bias,
                           .out = Columns(group.up, first, width)});
      first += width;
    }
  }
  QuantizeOperands();
  kernels_.matmul(device_, products_);
}

// The parts of an expert add up in their order: each in a call of its own, for all groups.
void Ffn::Contract(const FfnWeights& ffn, const Activations& a) {
  products_.clear();
  operands_.clear();
  operand_bytes_ = 0;
  size_t most_parts = 0;
  for (const Group& group : groups_) most_parts = std::max(most_parts, group.expert->parts.size());
  absl::InlinedVector<size_t, 4> ends;  // of the products of each call
  for (size_t p = 0; p < most_parts; ++p) {
    for (Group& group : groups_) {
      if (p >= group.expert->parts.size()) continue;
      const ExpertPart& part = group.expert->parts[p];
      const NeuronBlock& block = ffn.blocks[static_cast<size_t>(part.block)];
      const int64_t width = PartWidth(ffn, part);
      const Tensor hidden = Columns(group.hidden, group.contracted, width);
      group.contracted += width;
      products_.push_back({.x = Operand(block.down, hidden, a),
                           .weight = block.down.weight,
                           .in_tiles = part.tiles,
                           .bias = p == 0 ? block.down.bias : nullptr,
                           .accumulate = p > 0,
                           .out = group.out});
    }
    ends.push_back(products_.size());
  }
  QuantizeOperands();
  size_t begin = 0;
  for (const size_t end : ends) {
    kernels_.matmul(device_, absl::MakeConstSpan(products_).subspan(begin, end - begin));
    begin = end;
  }
}

// What a product by `linear` takes for x: itself, or its place among the operands to be quantised.
ConstTensor Ffn::Operand(const Linear& linear, ConstTensor x, const Activations& a) {
  if (linear.input == DType::kF32) return x;
  if (!operands_.empty()) {
    const Quantization& last = operands_.back();
    if (last.x.data == x.data && last.x.rows == x.rows && last.x.cols == x.cols) return last.out;
  }
  char* const memory = static_cast<char*>(a.quantized.data) + operand_bytes_;
  const Tensor quantized = MakeView(static_cast<void*>(memory), activations_, x.rows, x.cols);
  operand_bytes_ += quantized.rows * quantized.stride;
  operands_.push_back({x, quantized});
  return quantized;
}

void Ffn::QuantizeOperands() {
  if (!operands_.empty()) kernels_.quantize_rows(device_, operands_);
}

}  // namespace pregate
