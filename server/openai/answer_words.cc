#include "server/openai/answer_words.h"

#include <unicode/utf8.h>

#include <algorithm>
#include <atomic>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "server/openai/json_body.h"
#include "server/openai/openai_error.h"

namespace pregate {
namespace {

std::string FrameText(const AnswerFrame& frame) {
  return absl::StrCat(R"({"id":)", JsonText(frame.id), R"(,"object":)", JsonText(frame.object),
                      R"(,"created":)", frame.created, R"(,"model":)", JsonText(frame.model));
}

bool IsUtf8(const std::string& text) {
  const int64_t size = static_cast<int64_t>(text.size());
  for (int64_t next = 0; next < size;) {
    UChar32 character;
    U8_NEXT(text.data(), next, size, character);
    if (character < 0) return false;
  }
  return true;
}

}  // namespace

std::string NewAnswerId(absl::string_view prefix) {
  static const uint64_t start = static_cast<uint64_t>(absl::ToUnixNanos(absl::Now()));
  static std::atomic<uint64_t> count = 0;
  return absl::StrFormat("%s%x%06x", prefix, start, ++count);
}

void UsageCount::Add(const AnswerDelta& delta) {
  if (delta.finish == FinishReason::kNone) return;
  completion_tokens_ += delta.completion_tokens;
  if (delta.index != 0) return;
  prompt_tokens_ += delta.prompt_tokens;
  cached_tokens_ += delta.cached_prompt_tokens;
}

std::string UsageCount::Json() const {
  return absl::StrCat(R"({"prompt_tokens":)", prompt_tokens_, R"(,"completion_tokens":)",
                      completion_tokens_, R"(,"total_tokens":)",
                      prompt_tokens_ + completion_tokens_,
                      R"(,"prompt_tokens_details":{"cached_tokens":)", cached_tokens_, "}}");
}

std::string WholeAnswer(const AnswerFrame& frame, const std::vector<std::string>& choices,
                        const UsageCount& usage, absl::string_view more) {
  return absl::StrCat(FrameText(frame), R"(,"choices":[)", absl::StrJoin(choices, ","),
                      R"(],"usage":)", usage.Json(), more, "}");
}

EventWriter::EventWriter(const AnswerFrame& frame)
    : begin_(absl::StrCat("data: ", FrameText(frame), R"(,"choices":[)")),
      end_(frame.stream.include_usage ? "],\"usage\":null}\n\n" : "]}\n\n"),
      include_usage_(frame.stream.include_usage) {}

std::string EventWriter::Choice(absl::string_view choice) const {
  return absl::StrCat(begin_, choice, end_);
}

std::string EventWriter::End(const UsageCount& usage, const absl::Status& status) const {
  if (!status.ok()) {
    return absl::StrCat("data: ", OpenAiErrorText(HttpStatusOf(status), status), "\n\n");
  }
  return absl::StrCat(
      include_usage_ ? absl::StrCat(begin_, R"(],"usage":)", usage.Json(), "}\n\n") : "",
      "data: [DONE]\n\n");
}

std::string FinishJson(FinishReason finish) {
  switch (finish) {
    case FinishReason::kStop:
      return R"("stop")";
    case FinishReason::kLength:
      return R"("length")";
    default:
      return "null";
  }
}

std::string TokenName(const Tokenizer& tokenizer, int32_t id) {
  std::string bytes = tokenizer.TokenBytes(id, /*show_special=*/true);
  if (IsUtf8(bytes)) return bytes;
  std::string name = "bytes:";
  for (const char byte : bytes) {
    absl::StrAppendFormat(&name, "\\x%02x", static_cast<unsigned char>(byte));
  }
  return name;
}

std::string PromptLogprobsField(const Tokenizer& tokenizer,
                                const std::vector<PositionLogprobs>& logprobs) {
  using nlohmann::ordered_json;
  ordered_json positions = ordered_json::array({nullptr});  // nothing precedes the first token
  for (const PositionLogprobs& position : logprobs) {
    ordered_json& tokens = positions.emplace_back(ordered_json::object());
    const auto add = [&](const TokenLogprob& token, ordered_json rank) {
      tokens.emplace(absl::StrCat(token.token_id),
                     ordered_json{{"logprob", JsonLogprob(token.logprob)},
                                  {"rank", std::move(rank)},
                                  {"decoded_token", TokenName(tokenizer, token.token_id)}});
    };
    for (size_t i = 0; i < position.top.size(); ++i) add(position.top[i], i + 1);
    add(position.chosen, nullptr);  // if it is among them, it is there
    for (const TokenLogprob& token : position.wanted) add(token, nullptr);
  }
  return absl::StrCat(R"(,"prompt_logprobs":)", Dump(positions));
}

double JsonLogprob(float logprob) {
  constexpr double kOfNothing = -9999.0;
  return std::max<double>(logprob, kOfNothing);
}

std::string Dump(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/false,
                    nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace pregate
