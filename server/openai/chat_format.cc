#include "server/openai/chat_format.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/openai/json_body.h"

namespace pregate {
namespace {

using nlohmann::ordered_json;

ordered_json TokenJson(const Tokenizer& tokenizer, const TokenLogprob& token) {
  ordered_json bytes = ordered_json::array();
  for (const char byte : tokenizer.TokenBytes(token.token_id, /*show_special=*/true)) {
    bytes.push_back(static_cast<unsigned char>(byte));
  }
  return {{"token", TokenName(tokenizer, token.token_id)},
          {"logprob", JsonLogprob(token.logprob)},
          {"bytes", std::move(bytes)}};
}

std::string DeltaText(int index, absl::string_view delta, absl::string_view logprobs,
                      FinishReason finish) {
  return absl::StrCat(R"({"index":)", index, R"(,"delta":)", delta, R"(,"logprobs":)", logprobs,
                      R"(,"finish_reason":)", FinishJson(finish), "}");
}

}  // namespace

ChatFormat::ChatFormat(const Tokenizer* tokenizer, AnswerFrame frame, int answers, bool logprobs,
                       bool prompt_logprobs)
    : tokenizer_(tokenizer),
      frame_(std::move(frame)),
      events_(frame_),
      logprobs_(logprobs),
      prompt_logprobs_(prompt_logprobs),
      begun_(answers),
      whole_(answers) {}

std::string ChatFormat::Add(int /*prompt*/, AnswerDelta delta) {
  usage_.Add(delta);
  if (frame_.stream.stream) return Events(delta);
  if (prompt_logprobs_ && delta.index == 0) {
    prompt_words_ = PromptLogprobsField(*tokenizer_, delta.prompt_logprobs);
  }
  whole_[delta.index] =
      absl::StrCat(R"({"index":)", delta.index, R"(,"message":{"role":"assistant","content":)",
                   JsonText(delta.text), R"(,"refusal":null},"logprobs":)", LogprobsOf(delta),
                   R"(,"finish_reason":)", FinishJson(delta.finish), "}");
  return "";
}

std::string ChatFormat::End(const absl::Status& status) {
  if (frame_.stream.stream) return events_.End(usage_, status);
  return WholeAnswer(frame_, whole_, usage_, prompt_words_);
}

std::string ChatFormat::Events(const AnswerDelta& delta) {
  std::string events;
  if (!begun_[delta.index]) {
    begun_[delta.index] = true;
    events = events_.Choice(DeltaText(delta.index, R"({"role":"assistant","content":""})", "null",
                                      FinishReason::kNone));
  }
  const std::string logprobs = delta.logprobs.empty() ? "null" : LogprobsOf(delta);
  // The text of tokens may still be held back.
  const bool says_nothing =
      delta.text.empty() && logprobs == "null" && delta.finish == FinishReason::kNone;
  if (says_nothing) return events;
  const std::string content =
      delta.text.empty() ? "{}" : absl::StrCat(R"({"content":)", JsonText(delta.text), "}");
  return events + events_.Choice(DeltaText(delta.index, content, logprobs, delta.finish));
}

std::string ChatFormat::LogprobsOf(const AnswerDelta& delta) const {
  if (!logprobs_) return "null";
  ordered_json content = ordered_json::array();
  for (const PositionLogprobs& position : delta.logprobs) {
    ordered_json entry = TokenJson(*tokenizer_, position.chosen);
    entry["top_logprobs"] = ordered_json::array();
    for (const auto* tokens : {&position.top, &position.wanted}) {
      for (const TokenLogprob& token : *tokens) {
        entry["top_logprobs"].push_back(TokenJson(*tokenizer_, token));
      }
    }
    content.push_back(std::move(entry));
  }
  return Dump({{"content", std::move(content)}, {"refusal", nullptr}});
}

}  // namespace pregate
