#include "engine/model/activations.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace pregate {
namespace {

constexpr int64_t kAlignment = 64;

Tensor FirstRows(Tensor tensor, int64_t rows) {
  tensor.rows = rows;
  return tensor;
}

// As wide as a quantised matrix may be: whole groups.
int64_t Padded(int64_t cols) { return (cols + 31) / 32 * 32; }

struct Part {
  Tensor* tensor;
  DType dtype;
  int64_t rows, cols;

  int64_t bytes() const {
    return (rows * RowBytes(dtype, cols) + kAlignment - 1) / kAlignment * kAlignment;
  }
};

int64_t Bytes(const std::vector<Part>& parts) {
  int64_t bytes = 0;
  for (const Part& part : parts) bytes += part.bytes();
  return bytes;
}

// One after the other from `next` on.
void Lay(const std::vector<Part>& parts, char* next) {
  for (const Part& part : parts) {
    *part.tensor = MakeView(static_cast<void*>(next), part.dtype, part.rows, part.cols);
    next += part.bytes();
  }
}

}  // namespace

Activations Activations::Narrow(int64_t rows, int64_t logit_rows) const {
  Activations narrow = *this;
  for (Tensor* tensor :
       {&narrow.hidden, &narrow.normed, &narrow.query, &narrow.attended, &narrow.key, &narrow.value,
        &narrow.projected, &narrow.rope, &narrow.local_rope, &narrow.shared_logits}) {
    *tensor = FirstRows(*tensor, rows);
  }
  narrow.head_rows = FirstRows(narrow.head_rows, logit_rows);
  narrow.logits = FirstRows(narrow.logits, logit_rows);
  return narrow;
}

absl::StatusOr<ActivationMemory> AllocateActivations(const ModelConfig& config, const FfnShape& ffn,
                                                     Device* device, int32_t max_rows,
                                                     int32_t max_logits) {
  const int64_t hidden = config.hidden_size;
  const int64_t query = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv = int64_t{config.num_kv_heads} * config.head_dim;
  const int64_t rotated = 2 * static_cast<int64_t>(config.inv_freq.size());
  const int64_t local_rotated = 2 * static_cast<int64_t>(config.local_inv_freq.size());
  const int64_t rows = max_rows, logits = max_logits;
  const int64_t sorted = rows * ffn.experts;
  // Elements of the largest sets of matrices that are quantised together.
  const int64_t quantized =
      std::max({rows * Padded(query), std::max({rows, logits, sorted}) * Padded(hidden),
                rows * Padded(ffn.neurons)});

  ActivationMemory memory;
  Activations& all = memory.all;
  const std::vector<Part> common = {
      {&all.hidden, DType::kF32, rows, hidden},
      {&all.normed, DType::kF32, rows, hidden},
      {&all.projected, DType::kF32, rows, hidden},
      {&all.rope, DType::kF32, rows, rotated},
      {&all.local_rope, DType::kF32, rows, local_rotated},
      {&all.quantized, DType::kQ16Act, 1, quantized},
      {&all.gate_logits, DType::kF32, rows, ffn.num_routed},
      {&all.shared_logits, DType::kF32, rows, 1},
      {&all.expert_ids, DType::kI32, rows, ffn.experts},
      {&all.expert_weights, DType::kF32, rows, ffn.experts},
      {&all.sorted_rows, DType::kI32, rows, ffn.experts},
      {&all.mixed_positions, DType::kI32, rows, ffn.experts},
      {&all.expert_start, DType::kI32, 1, ffn.num_routed + 2},
      {&all.head_rows, DType::kF32, logits, hidden},
  };
  const std::vector<Part> attention = {
      {&all.query, DType::kF32, rows, query},
      {&all.attended, DType::kF32, rows, query},
      {&all.key, DType::kF32, rows, kv},
      {&all.value, DType::kF32, rows, kv},
  };
  const std::vector<Part> neurons = {
      {&all.gate, DType::kF32, rows, ffn.neurons},
      {&all.up, DType::kF32, rows, ffn.neurons},
      {&all.gathered, DType::kF32, sorted, hidden},
      {&all.mixed, DType::kF32, sorted, hidden},
  };
  // The last, since most steps need but its first rows.
  const std::vector<Part> head = {
      {&all.logits, DType::kF32, logits,
       config.shard.rank == 0 ? config.vocab_size : config.shard.head_rows(config.vocab_size)},
  };
  const int64_t sublayer = std::max(Bytes(attention), Bytes(neurons));
  absl::StatusOr<DeviceBuffer> buffer =
      device->Allocate(static_cast<size_t>(Bytes(common) + sublayer + Bytes(head)));
  if (!buffer.ok()) return buffer.status();
  memory.buffer = *std::move(buffer);
  char* next = static_cast<char*>(memory.buffer.data());
  Lay(common, next);
  next += Bytes(common);
  Lay(attention, next);
  Lay(neurons, next);
  Lay(head, next + sublayer);
  return memory;
}

}  // namespace pregate
