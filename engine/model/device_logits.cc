#include "engine/model/device_logits.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

#include "absl/status/statusor.h"

namespace pregate {

DeviceLogits::DeviceLogits(Device* device, const Kernels* kernels, int32_t vocab_size)
    : device_(device), kernels_(kernels), vocab_size_(vocab_size) {
  assert(kernels->likeliest != nullptr && vocab_size >= 1 && vocab_size <= kMaxLikeliestVocab);
}

bool DeviceLogits::FetchLikeliest(ConstTensor logits, int32_t count,
                                  absl::Span<const float> inv_temperatures) {
  const auto rows = static_cast<size_t>(logits.rows);
  const size_t listed = rows * static_cast<size_t>(count);
  const bool weigh = !inv_temperatures.empty();
  assert(!weigh || inv_temperatures.size() == rows);
  const size_t bytes = (2 * listed + 2 * rows) * sizeof(float);
  if (memory_.size() < bytes) {
    memory_ = DeviceBuffer();
    absl::StatusOr<DeviceBuffer> memory = device_->Allocate(std::bit_ceil(bytes));
    if (!memory.ok()) return false;
    memory_ = *std::move(memory);
  }
  auto* const ids = static_cast<int32_t*>(memory_.data());
  auto* const values = reinterpret_cast<float*>(ids + listed);
  float* const totals = values + listed;
  float* const inverse = totals + rows;
  if (weigh) device_->CopyToDevice(inverse, inv_temperatures.data(), rows * sizeof(float));
  kernels_->likeliest(*device_, logits, vocab_size_, weigh ? inverse : nullptr, count, ids, values,
                      weigh ? totals : nullptr);
  rows_ = rows;
  count_ = count;
  fetched_.resize(2 * listed + (weigh ? rows : 0));
  device_->CopyToHost(fetched_.data(), ids, fetched_.size() * sizeof(int32_t));
  device_->Synchronize();
  return true;
}

LikeliestTokens DeviceLogits::Likeliest(size_t row) const {
  const auto count = static_cast<size_t>(count_);
  const int32_t* const ids = &fetched_[row * count];
  const int32_t* const values = ids + rows_ * count;
  LikeliestTokens likeliest;
  likeliest.all = count_ >= vocab_size_;
  likeliest.tokens.resize(static_cast<size_t>(std::min(count_, vocab_size_)));
  for (size_t j = 0; j < likeliest.tokens.size(); ++j) {
    likeliest.tokens[j] = {ids[j], std::bit_cast<float>(values[j])};
  }
  const size_t total = 2 * rows_ * count + row;
  if (total < fetched_.size()) likeliest.total = std::bit_cast<float>(fetched_[total]);
  return likeliest;
}

void DeviceLogits::FetchRows(ConstTensor logits, absl::Span<const size_t> rows) {
  const size_t vocab = static_cast<size_t>(vocab_size_);
  const size_t stride = static_cast<size_t>(logits.stride) / sizeof(float);
  assert(logits.stride % static_cast<int64_t>(sizeof(float)) == 0);
  if (rows.empty()) return;
  if (whole_.size() < rows.size() * stride) whole_.resize(rows.size() * stride);
  place_.resize(static_cast<size_t>(logits.rows));
  for (size_t begin = 0, end = 1; begin < rows.size(); begin = end++) {
    while (end < rows.size() && rows[end] == rows[end - 1] + 1) ++end;
    for (size_t i = begin; i < end; ++i) place_[rows[i]] = i * stride;
    device_->CopyToHost(&whole_[begin * stride],
                        logits.Row<float>(static_cast<int64_t>(rows[begin])),
                        ((end - begin - 1) * stride + vocab) * sizeof(float));
  }
  device_->Synchronize();
}

absl::Span<float> DeviceLogits::Row(size_t row) {
  return absl::MakeSpan(whole_).subspan(place_[row], static_cast<size_t>(vocab_size_));
}

}  // namespace pregate
