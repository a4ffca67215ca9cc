// The words that completions and chats have in common in their answers.
#ifndef PREGATE_SERVER_OPENAI_ANSWER_WORDS_H_
#define PREGATE_SERVER_OPENAI_ANSWER_WORDS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/tokenizer.h"
#include "server/generation/answer_text.h"
#include "server/openai/sampling_fields.h"

namespace pregate {

// What does not change from event to event of an answer.
struct AnswerFrame {
  std::string id;       // "cmpl-..."
  std::string object;   // "text_completion"
  int64_t created = 0;  // seconds since 1970
  std::string model;
  StreamFields stream;
};

// "chatcmpl-" and digits that no other answer has.
std::string NewAnswerId(absl::string_view prefix);

// Counts what answers have cost. The prompt of several answers counts once.
class UsageCount {
 public:
  void Add(const AnswerDelta& delta);
  std::string Json() const;

 private:
  int64_t prompt_tokens_ = 0;
  int64_t cached_tokens_ = 0;
  int64_t completion_tokens_ = 0;
};

// A whole response. `choices` are objects; `more`: further fields, each behind a comma.
std::string WholeAnswer(const AnswerFrame& frame, const std::vector<std::string>& choices,
                        const UsageCount& usage, absl::string_view more = "");

// Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
class EventWriter {
 public:
  explicit EventWriter(const AnswerFrame& frame);
  // One event about one choice.
  std::string Choice(absl::string_view choice) const;
  // The last events: the usage, where it was asked for, and [DONE]; or, if the answer was cut, the
  // error, and no [DONE].
  std::string End(const UsageCount& usage, const absl::Status& status) const;

 private:
  std::string begin_;  // up to the choices
  std::string end_;    // behind them
  bool include_usage_;
};

// "stop", "length"; null while the answer goes on, or has been cut.
std::string FinishJson(FinishReason finish);

// A token's bytes as a string: what is no UTF-8 becomes "bytes:\xe2\x80", so that two tokens never
// look the same.
std::string TokenName(const Tokenizer& tokenizer, int32_t id);

// vLLM's prompt_logprobs, as a field behind a comma: [null, {"<id>": {"logprob", "rank",
// "decoded_token"}, ...}, ...], of each token itself, of the likeliest, and of those asked for by
// id. The rank is null where it is not known.
std::string PromptLogprobsField(const Tokenizer& tokenizer,
                                const std::vector<PositionLogprobs>& logprobs);

// JSON has no infinity; OpenAI's stand-in for the logarithm of 0 has.
double JsonLogprob(float logprob);

std::string Dump(const nlohmann::ordered_json& value);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_ANSWER_WORDS_H_
