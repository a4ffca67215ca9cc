// Splits the source of a chat template into tokens (Jinja's syntax, with trim_blocks and
// lstrip_blocks set, as chat templates are written for).
#ifndef PREGATE_SERVER_CHAT_TEMPLATE_LEXER_H_
#define PREGATE_SERVER_CHAT_TEMPLATE_LEXER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pregate {

struct Token {
  enum class Kind : uint8_t {
    kData,        // text outside of tags
    kPrintBegin,  // {{
    kPrintEnd,    // }}
    kBlockBegin,  // {%
    kBlockEnd,    // %}
    kName,
    kString,  // escapes resolved
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind;
  std::string text;
  int line;
};

// The tokens of `source`, kEnd last. FAILED_PRECONDITION "line N: ..." on broken tags and strings.
absl::StatusOr<std::vector<Token>> Tokenize(absl::string_view source);

}  // namespace pregate

#endif  // PREGATE_SERVER_CHAT_TEMPLATE_LEXER_H_
