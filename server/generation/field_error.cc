#include "server/generation/field_error.h"

#include <unicode/utf8.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

// The form is agreed with every other error text of the server: 64 bytes, quotes and dots included.
constexpr size_t kMaxQuotedBytes = 64;
constexpr size_t kMaxEscapedBytes = kMaxQuotedBytes - 5;

constexpr int64_t kWholeText = -1;

// Where the first byte that belongs to no character is; kWholeText: nowhere.
int64_t FirstBrokenByte(absl::string_view text) {
  const int64_t size = static_cast<int64_t>(text.size());
  for (int64_t next = 0; next < size;) {
    const int64_t start = next;
    UChar32 character;
    U8_NEXT(text.data(), next, size, character);
    if (character < 0) return start;
  }
  return kWholeText;
}

}  // namespace

std::string Quoted(absl::string_view value) {
  // Escaping makes text longer, never shorter: no more than this is looked at.
  std::string escaped = absl::CHexEscape(value.substr(0, kMaxQuotedBytes));
  const bool cut = escaped.size() > kMaxEscapedBytes || value.size() > kMaxQuotedBytes;
  if (cut) escaped.resize(std::min(escaped.size(), kMaxEscapedBytes));
  return absl::StrCat("\"", escaped, cut ? "...\"" : "\"");
}

absl::Status FieldError(absl::string_view field, absl::string_view rule, int64_t got) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": must ", rule, "; got ", got));
}

absl::Status FieldError(absl::string_view field, absl::string_view rule, absl::string_view got) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": must ", rule, "; got ", Quoted(got)));
}

absl::Status CheckText(absl::string_view field, absl::string_view text, int64_t max_bytes) {
  if (static_cast<int64_t>(text.size()) > max_bytes) {
    return FieldError(field, absl::StrCat("be at most ", max_bytes, " bytes"),
                      static_cast<int64_t>(text.size()));
  }
  if (const int64_t broken = FirstBrokenByte(text); broken != kWholeText) {
    return FieldError(field, absl::StrCat("be valid UTF-8 (byte ", broken, " is not)"),
                      text.substr(broken));
  }
  return absl::OkStatus();
}

}  // namespace pregate
