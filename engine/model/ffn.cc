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

// Experts that a gate gives a row, the shared one included.
int32_t ExpertsPerRow(const FfnWeights& ffn, const MixtureConfig& mixture) {
  return mixture.gate.k + (ffn.shared_expert >= 0 ? 1 : 0);
}

}  // namespace

void RowsByExpert::Sort(absl::Span<const int32_t> ids, int32_t per_row, int32_t num_experts) {
  k = per_row;
  start.assign(static_cast<size_t>(num_experts) + 1, 0);
  positions.assign(ids.size(), -1);
  for (const int32_t id : ids) {
    if (id >= 0) ++start[static_cast<size_t>(id) + 1];
  }
  for (size_t e = 1; e < start.size(); ++e) start[e] += start[e - 1];
  rows.resize(static_cast<size_t>(start.back()));
  for (size_t i = 0; i < ids.size(); ++i) {  // start[e] runs to the end of e
    if (ids[i] < 0) continue;
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
  Upload(a);
}

absl::Status Ffn::Run(const FfnWeights& ffn, int32_t layer, const Activations& a) {
  groups_.clear();
  routed_.x = {};
  neurons_ = 0;
  blocks_ = &ffn.blocks;
  if (ffn.dense()) {
    AddGroup(ffn.experts[0], a.normed, a.projected, a);
    RunGroups(ffn, a);
    return absl::OkStatus();
  }
  if (store_ != nullptr) {
    if (absl::Status status = AwaitExperts(ffn, layer); !status.ok()) return status;
  }
  RunExperts(ffn, a);
  if (store_ != nullptr) store_->LayerRan(layer);
  return absl::OkStatus();
}

// Waits for what the plan's experts have in this layer, and finds out where it is; the layers after
// it come meanwhile. Tiles are always at the same place of their matrices. A copy may be anywhere:
// block e, the one unit of expert e.
absl::Status Ffn::AwaitExperts(const FfnWeights& ffn, int32_t layer) {
  placed_ = ffn.blocks;
  blocks_ = &placed_;
  for (int32_t e = 0; e + 1 < static_cast<int32_t>(sorted_.start.size()); ++e) {
    const auto i = static_cast<size_t>(e);
    if (sorted_.start[i] == sorted_.start[i + 1]) continue;
    const char* now = nullptr;
    for (const int32_t unit : ffn.experts[i].units) {
      const absl::StatusOr<const char*> there = store_->Await(unit, layer);
      if (!there.ok()) return there.status();
      now = *there;
    }
    if (!ffn.experts[i].parts[0].tiles.empty()) continue;
    const auto* const loaded = static_cast<const char*>(store_->Address(e, layer));
    NeuronBlock& block = placed_[i];
    for (PackedWeight* weight : {&block.gate.weight, &block.up.weight, &block.down.weight}) {
      weight->data = now + (static_cast<const char*>(weight->data) - loaded);
    }
  }
  return absl::OkStatus();
}

// Every expert for its rows, then for each row the sum of its experts.
void Ffn::RunExperts(const FfnWeights& ffn, const Activations& a) {
  if (ffn.gate) ChooseExperts(ffn, a);
  const bool on_device = ffn.gate && !device_.host_memory();
  on_device ? GroupOnDevice(ffn, a) : GroupByExpert(ffn, a);
  RunGroups(ffn, a);
  const int32_t per_row = ffn.gate ? ExpertsPerRow(ffn, config_.mixture) : sorted_.k;
  const auto* weights = ffn.gate ? static_cast<const float*>(a.expert_weights.data) : nullptr;
  kernels_.combine_rows(device_, a.mixed, static_cast<const int32_t*>(a.mixed_positions.data),
                        weights, per_row, a.projected);
}

// Asks the gate of the layer.
void Ffn::ChooseExperts(const FfnWeights& ffn, const Activations& a) {
  const int64_t rows = a.normed.rows;
  const Tensor logits = MakeView(a.gate_logits.data, DType::kF32, rows, ffn.gate.weight.rows);
  products_ = {{.x = a.normed, .weight = ffn.gate.weight, .out = logits}};
  if (ffn.shared_gate) {
    products_.push_back({.x = a.normed, .weight = ffn.shared_gate.weight, .out = a.shared_logits});
  }
  kernels_.matmul(device_, products_);
  GateParams gate = config_.mixture.gate;
  gate.shared = ffn.shared_expert >= 0;
  auto* const ids = static_cast<int32_t*>(a.expert_ids.data);
  kernels_.top_k_gate(device_, logits, ffn.shared_gate ? a.shared_logits : Tensor(), gate, ids,
                      static_cast<float*>(a.expert_weights.data));
  if (!device_.host_memory()) return;
  const int32_t per_row = ExpertsPerRow(ffn, config_.mixture);
  chosen_.assign(ids, ids + rows * per_row);
  // By their numbers here: the shared expert, the gate's last, is the last of every rank.
  for (int32_t& id : chosen_) {
    const int32_t own = id - ffn.first_expert;
    const bool here = own >= 0 && own < ffn.num_routed();
    id = id == ffn.num_choices() ? ffn.shared_expert : here ? own : -1;
  }
  // Here the layer's demand becomes known, and not before. A store of experts that do not all fit
  // is told of it at this point, by a callback (layer, ids, rows), and awaited in RunExperts before
  // the groups that need what it loads.
  sorted_.Sort(chosen_, per_row, static_cast<int32_t>(ffn.experts.size()));
  Upload(a);
}

// A group for each expert that has rows, as sorted_ says.
void Ffn::GroupByExpert(const FfnWeights& ffn, const Activations& a) {
  const int64_t rows = a.normed.rows;
  const int64_t shared_rows = ffn.shared_expert < 0 ? 0 : rows;  // the last, in order
  // One row needs no copies of itself, and the shared expert takes all rows as they are.
  const Tensor gathered =
      Rows(a.gathered, 0, static_cast<int64_t>(sorted_.rows.size()) - shared_rows);
  if (rows > 1) {
    kernels_.gather_rows(device_, a.normed, static_cast<const int32_t*>(a.sorted_rows.data),
                         gathered);
  }
  for (int32_t e = 0; e < static_cast<int32_t>(ffn.experts.size()); ++e) {
    const int32_t first = sorted_.start[static_cast<size_t>(e)];
    const int32_t count = sorted_.start[static_cast<size_t>(e) + 1] - first;
    if (count == 0) continue;
    const bool all = rows == 1 || e == ffn.shared_expert;
    AddGroup(ffn.experts[static_cast<size_t>(e)], all ? a.normed : Rows(gathered, first, count),
             Rows(a.mixed, first, count), a);
  }
}

// The same where the gate's choice stays on the device: experts of one layer have one shape.
void Ffn::GroupOnDevice(const FfnWeights& ffn, const Activations& a) {
  const int64_t rows = a.normed.rows, sorted = rows * config_.mixture.gate.k;
  const int32_t shared = ffn.shared_expert < 0 ? 0 : 1, choices = ffn.num_choices();
  const ExpertOrder order = {.start = a.expert_start.Row<int32_t>(0),
                             .rows = a.sorted_rows.Row<int32_t>(0),
                             .positions = a.mixed_positions.Row<int32_t>(0),
                             .first = ffn.first_expert,
                             .end = ffn.first_expert + ffn.num_routed(),
                             .shared = shared == 0 ? -1 : choices};
  kernels_.sort_by_expert(device_, static_cast<const int32_t*>(a.expert_ids.data), rows,
                          ExpertsPerRow(ffn, config_.mixture), choices + shared, order);
  const Tensor gathered = Rows(a.gathered, 0, sorted);
  kernels_.gather_rows(device_, a.normed, order.rows, gathered);
  const int64_t width = ffn.experts[0].width;
  routed_.x = gathered;
  routed_.hidden = MakeView(a.gate.data, DType::kF32, sorted, width);
  routed_.up = MakeView(a.up.data, DType::kF32, sorted, width);
  routed_.out = Rows(a.mixed, 0, sorted);
  routed_.row_start = order.start + ffn.first_expert;
  routed_.max_rows = rows;
  for (std::vector<PackedWeight>* weights : {&routed_.gates, &routed_.ups, &routed_.downs}) {
    weights->clear();
  }
  for (int32_t e = 0; e < ffn.num_routed(); ++e) {
    const NeuronBlock& block = ffn.blocks[static_cast<size_t>(e)];
    routed_.gates.push_back(block.gate.weight);
    routed_.ups.push_back(block.up.weight);
    routed_.downs.push_back(block.down.weight);
  }
  neurons_ = sorted * width;
  if (ffn.shared_expert >= 0) {
    AddGroup(ffn.experts[static_cast<size_t>(ffn.shared_expert)], a.normed,
             Rows(a.mixed, sorted, rows), a);
  }
}

void Ffn::Upload(const Activations& a) {
  const auto copy = [this](const Tensor& to, const std::vector<int32_t>& from) {
    device_.CopyToDevice(to.data, from.data(), from.size() * sizeof(int32_t));
  };
  copy(a.sorted_rows, sorted_.rows);
  copy(a.mixed_positions, sorted_.positions);
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
  if (routed_.x) gated_.push_back({routed_.hidden, routed_.up, {}, routed_.hidden});
  for (const Group& group : groups_) {
    gated_.push_back({group.hidden, group.up, group.expert->owned, group.hidden});
  }
  kernels_.gated_activation(device_, config_.activation, gated_);
  Contract(ffn, a);
}

void Ffn::Expand(const FfnWeights& ffn, const Activations& a) {
  StartProducts();
  if (routed_.x) {
    const ConstTensor x = Operand(ffn.blocks[0].gate, routed_.x, a);
    grouped_.push_back({x, routed_.gates, routed_.row_start, routed_.max_rows, routed_.hidden});
    grouped_.push_back({x, routed_.ups, routed_.row_start, routed_.max_rows, routed_.up});
  }
  for (const Group& group : groups_) {
    int64_t first = 0;  // neuron of the expert
    for (const ExpertPart& part : group.expert->parts) {
      const NeuronBlock& block = (*blocks_)[static_cast<size_t>(part.block)];
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
  if (!grouped_.empty()) kernels_.grouped_matmul(device_, grouped_);
  if (!products_.empty()) kernels_.matmul(device_, products_);
}

// The parts of an expert add up in their order: each in a call of its own, for all groups.
void Ffn::Contract(const FfnWeights& ffn, const Activations& a) {
  StartProducts();
  if (routed_.x) {
    grouped_.push_back({Operand(ffn.blocks[0].down, routed_.hidden, a), routed_.downs,
                        routed_.row_start, routed_.max_rows, routed_.out});
  }
  size_t most_parts = 0;
  for (const Group& group : groups_) most_parts = std::max(most_parts, group.expert->parts.size());
  absl::InlinedVector<size_t, 4> ends;  // of the products of each call
  for (size_t p = 0; p < most_parts; ++p) {
    for (Group& group : groups_) {
      if (p >= group.expert->parts.size()) continue;
      const ExpertPart& part = group.expert->parts[p];
      const NeuronBlock& block = (*blocks_)[static_cast<size_t>(part.block)];
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
  if (!grouped_.empty()) kernels_.grouped_matmul(device_, grouped_);
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

void Ffn::StartProducts() {
  products_.clear();
  grouped_.clear();
  operands_.clear();
  operand_bytes_ = 0;
}

void Ffn::QuantizeOperands() {
  if (!operands_.empty()) kernels_.quantize_rows(device_, operands_);
}

}  // namespace pregate
