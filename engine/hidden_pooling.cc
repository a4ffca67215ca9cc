#include "engine/hidden_pooling.h"

#include <utility>

namespace pregate {

void HiddenPooling::Add(int32_t position, const float* row, int64_t size) {
  if (how_ == Pooling::kLast || (how_ == Pooling::kCls && position == 0)) {
    sum_.assign(row, row + size);
    rows_ = 1;
    return;
  }
  if (how_ != Pooling::kMean || position != rows_) return;
  sum_.resize(static_cast<size_t>(size));
  for (size_t i = 0; i < sum_.size(); ++i) sum_[i] += double{row[i]};
  ++rows_;
}

std::vector<float> HiddenPooling::Take() {
  std::vector<float> values;
  values.reserve(sum_.size());
  for (const double sum : sum_) values.push_back(static_cast<float>(sum / rows_));
  return values;
}

GenerationRequest RequestOf(EncodingRequest text, const HiddenPooling& pooling) {
  GenerationRequest request;
  request.prompt = std::move(text.ids);
  request.max_tokens = 0;  // the last row's hidden state is what counts
  request.sampling.resize(1);
  request.sampling[0].temperature = 0.0f;
  // Scoring the prompt is what makes every row one whose hidden state is given out.
  if (pooling.wants_all_rows()) request.prompt_logprobs = 0;
  request.priority = text.priority;
  request.cache_salt = text.cache_salt;
  request.deadline = text.deadline;
  return request;
}

EncodingOutput OutputOf(const GenerationOutput& end, HiddenPooling* pooling) {
  EncodingOutput output;
  output.queue = end.timing.queue;
  output.compute = end.timing.prefill;
  switch (end.finish) {
    case FinishReason::kStop:
    case FinishReason::kLength:
      output.values = pooling->Take();
      break;
    case FinishReason::kCancelled:
      output.status = absl::CancelledError("request: cancelled");
      break;
    case FinishReason::kDeadline:
      output.status = absl::DeadlineExceededError(end.detail);
      break;
    default:
      output.status = absl::InternalError(end.detail);
  }
  return output;
}

}  // namespace pregate
