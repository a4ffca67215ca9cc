#include "server/openai/completion_format.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/openai/json_body.h"

namespace pregate {
namespace {

// Bytes that do not continue a character.
int64_t CountCharacters(absl::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char byte) { return (byte & 0xC0) != 0x80; });
}

std::string ChoiceText(int index, absl::string_view text, absl::string_view logprobs,
                       FinishReason finish, absl::string_view more = "") {
  return absl::StrCat(R"({"index":)", index, R"(,"text":)", JsonText(text), R"(,"logprobs":)",
                      logprobs, R"(,"finish_reason":)", FinishJson(finish), more, "}");
}

}  // namespace

void CompletionLogprobs::Add(int32_t id, const PositionLogprobs* logprobs) {
  tokens_.push_back(TokenName(*tokenizer_, id));
  offsets_.push_back(offset_);
  offset_ += CountCharacters(text_.Add(id));
  if (logprobs == nullptr) {
    token_logprobs_.push_back(nullptr);
    top_logprobs_.push_back(nullptr);
    return;
  }
  token_logprobs_.push_back(JsonLogprob(logprobs->chosen.logprob));
  nlohmann::ordered_json top = nlohmann::ordered_json::object();
  for (const TokenLogprob& one : logprobs->top) {
    top[TokenName(*tokenizer_, one.token_id)] = JsonLogprob(one.logprob);
  }
  for (const TokenLogprob& one : logprobs->wanted) {
    top[TokenName(*tokenizer_, one.token_id)] = JsonLogprob(one.logprob);
  }
  // The chosen one is always among them.
  top[TokenName(*tokenizer_, id)] = JsonLogprob(logprobs->chosen.logprob);
  top_logprobs_.push_back(std::move(top));
}

std::string CompletionLogprobs::Take() {
  const auto empty = nlohmann::ordered_json::array();
  return Dump({{"tokens", std::exchange(tokens_, empty)},
               {"token_logprobs", std::exchange(token_logprobs_, empty)},
               {"top_logprobs", std::exchange(top_logprobs_, empty)},
               {"text_offset", std::exchange(offsets_, empty)}});
}

CompletionFormat::CompletionFormat(const Tokenizer* tokenizer, AnswerFrame frame, int answers,
                                   const CompletionRequest& request)
    : tokenizer_(tokenizer),
      frame_(std::move(frame)),
      events_(frame_),
      answers_(answers),
      logprobs_(request.logprobs),
      prompt_logprobs_(request.prompt_logprobs),
      echo_(request.echo),
      choices_(request.prompts.size() * answers, {false, CompletionLogprobs(tokenizer), {}}) {}

std::string CompletionFormat::Add(int prompt, AnswerDelta delta) {
  usage_.Add(delta);
  if (frame_.stream.stream) return Event(prompt, delta);
  choices_[prompt * answers_ + delta.index].whole = std::move(delta);
  return "";
}

std::string CompletionFormat::End(const absl::Status& status) {
  if (frame_.stream.stream) return events_.End(usage_, status);
  std::vector<std::string> texts;
  for (size_t i = 0; i < choices_.size(); ++i) {
    // The prompt's log-probabilities came with its first answer.
    const int prompt = static_cast<int>(i) / answers_;
    texts.push_back(
        Whole(prompt, choices_[i].whole, choices_[prompt * answers_].whole.prompt_logprobs));
  }
  return WholeAnswer(frame_, texts, usage_);
}

std::string CompletionFormat::Event(int prompt, const AnswerDelta& delta) {
  const int index = prompt * answers_ + delta.index;
  Choice& choice = choices_[index];
  std::string text;
  if (!std::exchange(choice.begun, true) && !echo_.empty()) text = echo_[prompt].text;
  text += delta.text;
  std::string logprobs = "null";
  if (logprobs_ && !delta.logprobs.empty()) {
    for (size_t i = 0; i < delta.logprobs.size(); ++i) {
      choice.logprobs.Add(delta.token_ids[i], &delta.logprobs[i]);
    }
    logprobs = choice.logprobs.Take();
  }
  // The text of tokens may still be held back.
  const bool says_nothing =
      text.empty() && logprobs == "null" && delta.finish == FinishReason::kNone;
  if (says_nothing) return "";
  return events_.Choice(ChoiceText(index, text, logprobs, delta.finish));
}

std::string CompletionFormat::Whole(int prompt, const AnswerDelta& delta,
                                    const std::vector<PositionLogprobs>& prompt_logprobs) const {
  CompletionLogprobs logprobs(tokenizer_);
  std::string text;
  if (!echo_.empty()) {
    const std::vector<int32_t>& ids = echo_[prompt].ids;
    text = echo_[prompt].text;
    for (size_t i = 0; i < ids.size(); ++i) {
      const bool known = i > 0 && i <= prompt_logprobs.size();
      logprobs.Add(ids[i], known ? &prompt_logprobs[i - 1] : nullptr);
    }
  }
  for (size_t i = 0; i < delta.logprobs.size(); ++i) {
    logprobs.Add(delta.token_ids[i], &delta.logprobs[i]);
  }
  text += delta.text;
  return ChoiceText(prompt * answers_ + delta.index, text, logprobs_ ? logprobs.Take() : "null",
                    delta.finish,
                    prompt_logprobs_ ? PromptLogprobsField(*tokenizer_, prompt_logprobs) : "");
}

}  // namespace pregate
