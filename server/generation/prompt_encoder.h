// PromptEncoder: from what a client wrote to the token ids of a prompt.
#ifndef PREGATE_SERVER_GENERATION_PROMPT_ENCODER_H_
#define PREGATE_SERVER_GENERATION_PROMPT_ENCODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer.h"
#include "server/chat_template/chat_template.h"
#include "server/generation/client_request.h"

namespace pregate {

// Immutable, safe to share between threads. Errors are INVALID_ARGUMENT unless said otherwise.
class PromptEncoder {
 public:
  // `chat_template`: its source; empty: there is none. `tokenizer` must outlive this. A prompt of
  // more than `max_prompt_tokens` tokens is refused before it is tokenised where its size shows it.
  PromptEncoder(const Tokenizer* tokenizer, const std::string& chat_template,
                int32_t max_prompt_tokens);

  // The ids of the request's prompt, which may still be more than the context holds.
  // FAILED_PRECONDITION: a chat, and chat_status() is not OK.
  absl::StatusOr<std::vector<int32_t>> Encode(ClientRequest request) const;

  // Why conversations cannot be served; OK: they can.
  absl::Status chat_status() const { return chat_template_.status(); }

 private:
  absl::StatusOr<std::vector<int32_t>> EncodeText(const std::string& text,
                                                  bool parse_special) const;
  absl::StatusOr<std::vector<int32_t>> EncodeChat(const std::vector<ChatMessage>& messages,
                                                  bool parse_special) const;
  absl::StatusOr<std::vector<RenderedSegment>> Render(
      const std::vector<ChatMessage>& messages) const;

  const Tokenizer* tokenizer_;
  absl::StatusOr<ChatTemplate> chat_template_;
  int64_t max_prompt_bytes_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_PROMPT_ENCODER_H_
