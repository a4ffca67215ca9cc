// AnswerText: one answer on its way from the engine's token ids to what a client sees.
#ifndef PREGATE_SERVER_GENERATION_ANSWER_TEXT_H_
#define PREGATE_SERVER_GENERATION_ANSWER_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "server/generation/stop_matcher.h"

namespace pregate {

// What is new of one answer.
struct AnswerDelta {
  int32_t index = 0;                              // which answer
  std::string text;                               // whole characters, before any stop string
  std::vector<int32_t> token_ids;                 // run ahead of the text
  std::vector<PositionLogprobs> logprobs;         // one for each token, where asked for
  std::vector<PositionLogprobs> prompt_logprobs;  // once, with the first of answer 0
  FinishReason finish = FinishReason::kNone;
  std::string detail;  // of kDeadline and kError

  // Set with `finish`.
  int32_t prompt_tokens = 0;
  int32_t cached_prompt_tokens = 0;
  int32_t completion_tokens = 0;
  RequestTiming timing;

  bool empty() const { return token_ids.empty() && text.empty() && finish == FinishReason::kNone; }
};

// "stop", "length", "cancelled", "deadline", "error"; "" for kNone.
std::string FinishName(FinishReason finish);

class AnswerText {
 public:
  // Stop strings are looked for from the token number `min_tokens` on.
  AnswerText(const Tokenizer* tokenizer, const std::vector<std::string>& stops, int32_t min_tokens)
      : detokenizer_(tokenizer), stops_(stops), min_tokens_(min_tokens) {}

  // Adds what the engine gave to `delta`. Once stopped(), the engine's further tokens are dropped;
  // its last output, which says how long things took, still counts.
  void Add(GenerationOutput output, AnswerDelta* delta);

  // A stop string has ended the answer: the engine need not go on.
  bool stopped() const { return stops_.matched(); }

 private:
  void AddToken(int32_t id, AnswerDelta* delta);
  void Finish(GenerationOutput output, AnswerDelta* delta);

  IncrementalDetokenizer detokenizer_;
  StopMatcher stops_;
  int32_t min_tokens_;
  int32_t tokens_ = 0;  // given out
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_ANSWER_TEXT_H_
