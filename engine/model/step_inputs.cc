#include "engine/model/step_inputs.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

namespace pregate {

void StepInputs::Load(const BatchPlan& plan) {
  const std::pair<const std::vector<int32_t>*, const int32_t**> arrays[] = {
      {&plan.token_ids, &token_ids_},
      {&plan.positions, &positions_},
      {&plan.kv_slots, &kv_slots_},
      {&plan.logit_rows, &logit_rows_},
      {&plan.row_start, &attention_.row_start},
      {&plan.context_len, &attention_.context_len},
      {&plan.block_start, &attention_.block_start},
      {&plan.block_ids, &attention_.block_ids},  // the last: its length moves no other
  };
  staging_.clear();
  for (const auto& [source, unused] : arrays) {
    staging_.insert(staging_.end(), source->begin(), source->end());
  }
  const size_t bytes = staging_.size() * sizeof(int32_t);
  if (memory_.size() < bytes) {
    // The lists of blocks have no useful bound, so the memory doubles as they grow.
    absl::StatusOr<DeviceBuffer> grown = device_->Allocate(2 * bytes);
    assert(grown.ok());
    memory_ = *std::move(grown);
  }
  device_->CopyToDevice(memory_.data(), staging_.data(), bytes);
  const int32_t* next = static_cast<const int32_t*>(memory_.data());
  for (const auto& [source, target] : arrays) {
    *target = next;
    next += source->size();
  }
  attention_.num_sequences = plan.sequences();
  attention_.max_rows = attention_.max_context = 0;
  for (size_t s = 0; s < plan.context_len.size(); ++s) {
    attention_.max_rows = std::max(attention_.max_rows, plan.row_start[s + 1] - plan.row_start[s]);
    attention_.max_context = std::max(attention_.max_context, plan.context_len[s]);
  }
  // Few values, so that steps of one shape are the same calls.
  attention_.max_context =
      static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(attention_.max_context)));
}

}  // namespace pregate
