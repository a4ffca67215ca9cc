// Operations on tagged text that filters and methods share.
#ifndef PREGATE_SERVER_CHAT_TEMPLATE_TEXT_OPERATIONS_H_
#define PREGATE_SERVER_CHAT_TEMPLATE_TEXT_OPERATIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/chat_template/evaluation.h"
#include "server/chat_template/tagged_text.h"

namespace pregate {

inline constexpr size_t kMaxIndent = 256;  // bytes

// The first occurrence of `wanted` at or after `from`, and the last one; npos if there is none. In
// linear time whatever the strings, since both may be the template's.
size_t FindText(absl::string_view text, absl::string_view wanted, size_t from = 0);
size_t FindLastText(absl::string_view text, absl::string_view wanted);
// `rewrite` of a whole string: the client's if any byte of it was.
Value RewriteText(Evaluation* evaluation, const TaggedText& text,
                  std::string (*rewrite)(absl::string_view));

// Strips spaces, or the characters of the string `chars` if it is one.
Value StripText(Evaluation* evaluation, const TaggedText& text, const Value* chars, bool left,
                bool right);
// The first `limit` occurrences replaced; all if it is negative.
Value ReplaceText(Evaluation* evaluation, const TaggedText& text, const TaggedText& old_text,
                  const TaggedText& new_text, int64_t limit);
// str.split() and str.split(separator): at most `limit` splits; all if it is negative.
std::vector<TaggedText> SplitWords(Evaluation* evaluation, const TaggedText& text, int64_t limit);
std::vector<TaggedText> SplitText(Evaluation* evaluation, const TaggedText& text,
                                  const std::string& separator, int64_t limit, bool from_right);
std::vector<TaggedText> SplitLines(Evaluation* evaluation, const TaggedText& text, bool keep_ends);

}  // namespace pregate

#endif  // PREGATE_SERVER_CHAT_TEMPLATE_TEXT_OPERATIONS_H_
