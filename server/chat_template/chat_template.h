// ChatTemplate: the text that a model expects for a conversation, made by the Jinja template that
// the model carries.
#ifndef PREGATE_SERVER_CHAT_TEMPLATE_CHAT_TEMPLATE_H_
#define PREGATE_SERVER_CHAT_TEMPLATE_CHAT_TEMPLATE_H_

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/civil_time.h"

namespace pregate {

// What a template is rendered with.
struct ChatInput {
  // From the client: [{"role": ..., "content": ...}, ...].
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  // From the client: other variables, such as tools or documents.
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
  bool add_generation_prompt = true;
  std::string bos_token;  // from the model file
  std::string eos_token;
  absl::CivilSecond now;  // for strftime_now
};

// A piece of rendered text. Special tokens may be read only out of pieces that are not from the
// client: text that merely looks like one must stay text.
struct RenderedSegment {
  std::string text;
  bool from_client = false;

  friend bool operator==(const RenderedSegment&, const RenderedSegment&) = default;
};

// Immutable, safe to share between threads. A template is data from a model file: it can reach its
// inputs and a fixed list of functions, nothing else, and both its parse and its rendering are
// bounded in steps, depth and size.
class ChatTemplate {
 public:
  // FAILED_PRECONDITION "chat template: line N: ..." on what is broken, not supported or too deep.
  static absl::StatusOr<ChatTemplate> Parse(absl::string_view source);

  ChatTemplate(ChatTemplate&&);
  ChatTemplate& operator=(ChatTemplate&&);
  ~ChatTemplate();

  // The conversation as text, in segments that alternate in origin; none is empty.
  // INVALID_ARGUMENT: the template refuses the conversation (its own message), or cannot render it;
  // FAILED_PRECONDITION: it does not end within its budget.
  absl::StatusOr<std::vector<RenderedSegment>> Render(const ChatInput& input) const;

 private:
  struct Program;
  explicit ChatTemplate(std::unique_ptr<const Program> program);

  std::unique_ptr<const Program> program_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_CHAT_TEMPLATE_CHAT_TEMPLATE_H_
