#include "server/generation/prompt_encoder.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/generation/chat_prompt.h"

namespace pregate {
namespace {

// Whatever the context is, tokenising more than this in one call would hold its thread too long.
constexpr int64_t kMaxPromptBytes = 8 << 20;

constexpr std::array<absl::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                     "tool"};

// No text of more bytes can be `max_tokens` tokens.
int64_t LongestText(const Tokenizer& tokenizer, int32_t max_tokens) {
  size_t longest = 1;
  for (const std::string& token : tokenizer.spec().tokens) {
    longest = std::max(longest, token.size());
  }
  return std::min(kMaxPromptBytes, static_cast<int64_t>(longest) * max_tokens);
}

absl::StatusOr<ChatTemplate> ParseChatTemplate(const std::string& source) {
  if (source.empty()) {
    return absl::FailedPreconditionError(
        "chat: the model has no chat template; send `text` or `token_ids`");
  }
  return ChatTemplate::Parse(source);
}

std::string SpellingOf(const Tokenizer& tokenizer, std::optional<int32_t> id) {
  return id.has_value() ? tokenizer.spec().tokens[*id] : "";
}

absl::Status CheckMessage(size_t index, const ChatMessage& message, int64_t max_bytes) {
  const std::string field = absl::StrCat("chat.messages[", index, "]");
  if (std::find(kRoles.begin(), kRoles.end(), message.role) == kRoles.end()) {
    return FieldError(field + ".role", absl::StrCat("be one of ", absl::StrJoin(kRoles, ", ")),
                      message.role);
  }
  return CheckText(field + ".content", message.content, max_bytes);
}

}  // namespace

PromptEncoder::PromptEncoder(const Tokenizer* tokenizer, const std::string& chat_template,
                             int32_t max_prompt_tokens)
    : tokenizer_(tokenizer),
      chat_template_(ParseChatTemplate(chat_template)),
      max_prompt_bytes_(LongestText(*tokenizer, max_prompt_tokens)) {}

absl::StatusOr<std::vector<int32_t>> PromptEncoder::Encode(ClientRequest request) const {
  if (auto* ids = std::get_if<std::vector<int32_t>>(&request.prompt)) return std::move(*ids);
  if (const auto* text = std::get_if<std::string>(&request.prompt)) {
    return EncodeText(*text, request.parse_special);
  }
  if (const auto* messages = std::get_if<std::vector<ChatMessage>>(&request.prompt)) {
    return EncodeChat(*messages, request.parse_special);
  }
  return absl::InvalidArgumentError("prompt: must be one of text, token_ids and chat; got none");
}

absl::StatusOr<std::vector<int32_t>> PromptEncoder::EncodeText(const std::string& text,
                                                               bool parse_special) const {
  if (text.empty()) return FieldError("text", "not be empty", text);
  if (absl::Status status = CheckText("text", text, max_prompt_bytes_); !status.ok()) return status;
  return tokenizer_->Encode(text, {.add_special = true, .parse_special = parse_special});
}

absl::StatusOr<std::vector<int32_t>> PromptEncoder::EncodeChat(
    const std::vector<ChatMessage>& messages, bool parse_special) const {
  if (messages.empty()) return FieldError("chat.messages", "have at least one entry", 0);
  for (size_t i = 0; i < messages.size(); ++i) {
    if (absl::Status status = CheckMessage(i, messages[i], max_prompt_bytes_); !status.ok()) {
      return status;
    }
  }
  const absl::StatusOr<std::vector<RenderedSegment>> segments = Render(messages);
  if (!segments.ok()) return segments.status();
  int64_t bytes = 0;
  for (const RenderedSegment& segment : *segments) bytes += segment.text.size();
  if (bytes > max_prompt_bytes_) {
    return FieldError("chat", absl::StrCat("be at most ", max_prompt_bytes_, " bytes"), bytes);
  }
  // The template writes what begins a text itself.
  return EncodeSegments(*tokenizer_, *segments, parse_special);
}

absl::StatusOr<std::vector<RenderedSegment>> PromptEncoder::Render(
    const std::vector<ChatMessage>& messages) const {
  if (!chat_template_.ok()) return chat_template_.status();
  ChatInput input;
  for (const ChatMessage& message : messages) {
    input.messages.push_back({{"role", message.role}, {"content", message.content}});
  }
  input.bos_token = SpellingOf(*tokenizer_, tokenizer_->spec().bos_id);
  input.eos_token = SpellingOf(*tokenizer_, tokenizer_->spec().eos_id);
  input.now = absl::ToCivilSecond(absl::Now(), absl::LocalTimeZone());
  return chat_template_->Render(input);
}

}  // namespace pregate
