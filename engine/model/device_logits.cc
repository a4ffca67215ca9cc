#include "engine/model/device_logits.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/status/statusor.h"

namespace pregate {

void DeviceLogits::Questions::Clear() {
  top = 0;
  places.clear();
  edits.clear();
  draws.clear();
  whole.clear();
}

DeviceLogits::DeviceLogits(Device* device, const Kernels* kernels, int32_t vocab_size)
    : device_(device), kernels_(kernels), vocab_size_(vocab_size) {
  assert(kernels->draw_tokens != nullptr && vocab_size >= 1 && vocab_size <= kMaxLikeliestVocab);
}

DeviceLogits::Layout DeviceLogits::LayOut(const Questions& questions, int64_t rows) {
  const size_t totals = questions.top > 0 ? static_cast<size_t>(rows) : 0;
  const size_t listed = totals * static_cast<size_t>(questions.top);
  const size_t draws = questions.draws.size();
  Layout layout;
  layout.top_logits = totals * sizeof(double);
  layout.top_ids = layout.top_logits + listed * sizeof(float);
  layout.logits = layout.top_ids + listed * sizeof(int32_t);
  layout.drawn_logits = layout.logits + questions.places.size() * sizeof(float);
  layout.drawn_ids = layout.drawn_logits + draws * sizeof(float);
  layout.end = layout.drawn_ids + draws * sizeof(int32_t);
  return layout;
}

bool DeviceLogits::Ask(const Questions& questions, Tensor logits) {
  const Layout layout = LayOut(questions, logits.rows);
  if (memory_.size() < layout.end) {
    memory_ = DeviceBuffer();
    absl::StatusOr<DeviceBuffer> memory = device_->Allocate(std::bit_ceil(layout.end));
    if (!memory.ok()) return false;
    memory_ = *std::move(memory);
  }
  layout_ = layout;
  top_ = static_cast<size_t>(questions.top);
  if (top_ > 0) {
    kernels_->likeliest(*device_, logits, vocab_size_, questions.top,
                        OnDevice<int32_t>(layout.top_ids), OnDevice<float>(layout.top_logits),
                        OnDevice<double>(layout.totals));
  }
  kernels_->gather_logits(*device_, logits, questions.places, OnDevice<float>(layout.logits));
  kernels_->edit_logits(*device_, logits, questions.edits);
  kernels_->draw_tokens(*device_, logits, vocab_size_, questions.draws,
                        OnDevice<int32_t>(layout.drawn_ids), OnDevice<float>(layout.drawn_logits));
  answers_.resize(layout.end);
  if (layout.end > 0) device_->CopyToHost(answers_.data(), memory_.data(), layout.end);
  FetchRows(logits, questions.whole);
  device_->Synchronize();
  return true;
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

std::vector<TokenLogprob> DeviceLogits::Top(size_t row, int32_t count) const {
  const size_t first = row * top_;
  std::vector<TokenLogprob> top(static_cast<size_t>(std::min(count, vocab_size_)));
  assert(top.size() <= top_);
  for (size_t j = 0; j < top.size(); ++j) {
    top[j] = {OnHost<int32_t>(layout_.top_ids)[first + j],
              OnHost<float>(layout_.top_logits)[first + j]};
  }
  return top;
}

double DeviceLogits::LogSumExp(size_t row) const {
  const float largest = OnHost<float>(layout_.top_logits)[row * top_];
  if (largest == -std::numeric_limits<float>::infinity()) return largest;
  return double{largest} + std::log(OnHost<double>(layout_.totals)[row]);
}

absl::Span<float> DeviceLogits::Row(size_t row) {
  return absl::MakeSpan(whole_).subspan(place_[row], static_cast<size_t>(vocab_size_));
}

}  // namespace pregate
