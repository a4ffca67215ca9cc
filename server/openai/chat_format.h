// ChatFormat: answers as /v1/chat/completions words them.
#ifndef PREGATE_SERVER_OPENAI_CHAT_FORMAT_H_
#define PREGATE_SERVER_OPENAI_CHAT_FORMAT_H_

#include <string>
#include <vector>

#include "server/http/answer_exchange.h"
#include "server/openai/answer_words.h"

namespace pregate {

class ChatFormat : public AnswerFormat {
 public:
  // `logprobs`, `prompt_logprobs`: asked for.
  ChatFormat(const Tokenizer* tokenizer, AnswerFrame frame, int answers, bool logprobs,
             bool prompt_logprobs = false);

  std::string Add(int prompt, AnswerDelta delta) override;
  std::string End(const absl::Status& status) override;

 private:
  std::string Events(const AnswerDelta& delta);
  // {"content": [...]}, an entry for each token; "null" where none were asked for.
  std::string LogprobsOf(const AnswerDelta& delta) const;

  const Tokenizer* tokenizer_;
  const AnswerFrame frame_;
  const EventWriter events_;
  const bool logprobs_;
  const bool prompt_logprobs_;
  std::string prompt_words_;  // the field that tells them
  UsageCount usage_;
  std::vector<bool> begun_;         // [answers], of a stream
  std::vector<std::string> whole_;  // [answers], else
};

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_CHAT_FORMAT_H_
