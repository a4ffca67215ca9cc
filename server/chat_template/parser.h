// Tokens of a chat template to its syntax tree.
#ifndef PREGATE_SERVER_CHAT_TEMPLATE_PARSER_H_
#define PREGATE_SERVER_CHAT_TEMPLATE_PARSER_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/chat_template/syntax.h"

namespace pregate {

// Bound on tags within tags, and on expressions within expressions: a template comes from a model
// file, and every walk over its tree recurses.
inline constexpr int kMaxSyntaxDepth = 64;
inline constexpr size_t kMaxTemplateBytes = 256 << 10;  // published ones stay below 20 KiB

// FAILED_PRECONDITION "line N: ..." on what is broken, not supported, too long or too deep.
absl::StatusOr<Block> ParseTemplate(absl::string_view source);

}  // namespace pregate

#endif  // PREGATE_SERVER_CHAT_TEMPLATE_PARSER_H_
