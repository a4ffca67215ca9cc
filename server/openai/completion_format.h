// CompletionFormat: answers as /v1/completions words them.
#ifndef PREGATE_SERVER_OPENAI_COMPLETION_FORMAT_H_
#define PREGATE_SERVER_OPENAI_COMPLETION_FORMAT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/http/answer_exchange.h"
#include "server/openai/answer_words.h"
#include "server/openai/completion_request.h"

namespace pregate {

// The log-probabilities of a choice's text, token by token: {"tokens", "token_logprobs",
// "top_logprobs", "text_offset"}. Offsets count characters.
class CompletionLogprobs {
 public:
  explicit CompletionLogprobs(const Tokenizer* tokenizer)
      : tokenizer_(tokenizer), text_(tokenizer) {}

  // `logprobs` null: of the first token of a prompt nobody knows any.
  void Add(int32_t id, const PositionLogprobs* logprobs);
  // What was added since the last call.
  std::string Take();

 private:
  const Tokenizer* tokenizer_;
  IncrementalDetokenizer text_;
  int64_t offset_ = 0;
  nlohmann::ordered_json tokens_ = nlohmann::ordered_json::array();
  nlohmann::ordered_json token_logprobs_ = nlohmann::ordered_json::array();
  nlohmann::ordered_json top_logprobs_ = nlohmann::ordered_json::array();
  nlohmann::ordered_json offsets_ = nlohmann::ordered_json::array();
};

class CompletionFormat : public AnswerFormat {
 public:
  // Choice number prompt * answers + index is an answer to that prompt.
  CompletionFormat(const Tokenizer* tokenizer, AnswerFrame frame, int answers,
                   const CompletionRequest& request);

  std::string Add(int prompt, AnswerDelta delta) override;
  std::string End(const absl::Status& status) override;

 private:
  std::string Event(int prompt, const AnswerDelta& delta);
  std::string Whole(int prompt, const AnswerDelta& delta,
                    const std::vector<PositionLogprobs>& prompt_logprobs) const;

  const Tokenizer* tokenizer_;
  const AnswerFrame frame_;
  const EventWriter events_;
  const int answers_;
  const bool logprobs_;
  const bool prompt_logprobs_;
  const std::vector<Echo> echo_;
  UsageCount usage_;

  // [choices]
  struct Choice {
    bool begun = false;           // of a stream
    CompletionLogprobs logprobs;  // of a stream
    AnswerDelta whole;            // else
  };
  std::vector<Choice> choices_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_COMPLETION_FORMAT_H_
