#include "server/generation/answer_text.h"

#include <iterator>
#include <utility>

namespace pregate {

std::string FinishName(FinishReason finish) {
  switch (finish) {
    case FinishReason::kNone:
      return "";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kDeadline:
      return "deadline";
    case FinishReason::kError:
      break;
  }
  return "error";
}
namespace {

void Append(std::vector<PositionLogprobs> from, std::vector<PositionLogprobs>* to) {
  to->insert(to->end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

void AnswerText::Add(GenerationOutput output, AnswerDelta* delta) {
  delta->index = output.index;
  if (!stopped()) {
    Append(std::move(output.prompt_logprobs), &delta->prompt_logprobs);
    Append(std::move(output.logprobs), &delta->logprobs);
    // The engine gives one token at a time: whatever comes with a token that stops is that token's.
    for (const int32_t id : output.token_ids) AddToken(id, delta);
  }
  if (output.finish != FinishReason::kNone) Finish(std::move(output), delta);
}

void AnswerText::AddToken(int32_t id, AnswerDelta* delta) {
  delta->token_ids.push_back(id);
  const std::string text = detokenizer_.Add(id);
  const bool may_stop = ++tokens_ >= min_tokens_;
  delta->text += may_stop ? stops_.Add(text) : text;
}

void AnswerText::Finish(GenerationOutput output, AnswerDelta* delta) {
  if (!stopped()) {
    delta->text += stops_.Add(detokenizer_.Finish());
    delta->text += stops_.Finish();
  }
  delta->finish = stopped() ? FinishReason::kStop : output.finish;
  if (!stopped()) delta->detail = std::move(output.detail);
  delta->prompt_tokens = output.prompt_tokens;
  delta->cached_prompt_tokens = output.cached_prompt_tokens;
  delta->completion_tokens = tokens_;
  delta->timing = output.timing;
}

}  // namespace pregate
