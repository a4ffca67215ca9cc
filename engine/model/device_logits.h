// Logits in memory that the host cannot read: the likeliest tokens of each row are brought over,
// and whole rows where those are not enough.
#ifndef PREGATE_ENGINE_MODEL_DEVICE_LOGITS_H_
#define PREGATE_ENGINE_MODEL_DEVICE_LOGITS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/model/token_choice.h"
#include "kernels/device.h"
#include "kernels/kernels.h"
#include "kernels/tensor.h"

namespace pregate {

class DeviceLogits {
 public:
  // Tokens are the first `vocab_size` columns of each row.
  DeviceLogits(Device* device, const Kernels* kernels, int32_t vocab_size);

  // Brings the `count` likeliest tokens of each row of logits [L, >= vocab] kF32, and the weight of
  // all at these inverse temperatures [L]; none are given: without. False where the device has no
  // room for them.
  bool FetchLikeliest(ConstTensor logits, int32_t count, absl::Span<const float> inv_temperatures);
  // Those of a row, as fetched last.
  LikeliestTokens Likeliest(size_t row) const;

  // Brings whole rows, listed in ascending order; rows in succession come in one copy.
  void FetchRows(ConstTensor logits, absl::Span<const size_t> rows);
  // The logits of a row that was fetched last, [vocab], the caller's to change.
  absl::Span<float> Row(size_t row);

 private:
  Device* device_;
  const Kernels* kernels_;
  int32_t vocab_size_;

  DeviceBuffer memory_;           // what FetchLikeliest asks for, and inverse temperatures
  size_t rows_ = 0;               // L
  int32_t count_ = 0;             // tokens of a row
  std::vector<int32_t> fetched_;  // ids [L, count], the bits of their logits, those of totals [L]
  std::vector<float> whole_;      // rows, as far apart as on the device
  std::vector<size_t> place_;     // [L] of those rows in `whole_`
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_DEVICE_LOGITS_H_
