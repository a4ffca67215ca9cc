// The words in which model files are refused: "<field>: <rule>; got <value>".
#ifndef PREGATE_ENGINE_MODEL_FILE_ERROR_H_
#define PREGATE_ENGINE_MODEL_FILE_ERROR_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace pregate {

inline absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }

// Text of a file as it may stand in a message: in quotes, escaped, at most 64 bytes of it.
inline std::string Quoted(std::string_view text) {
  constexpr size_t kMaxShown = 64;
  const bool cut = text.size() > kMaxShown;
  return absl::StrCat("'", absl::CHexEscape(ToAbsl(text.substr(0, kMaxShown))), cut ? "...'" : "'");
}

inline std::string RefusalText(std::string_view field, std::string_view rule,
                               std::string_view got) {
  return absl::StrCat(ToAbsl(field), ": ", ToAbsl(rule), "; got ", ToAbsl(got));
}

// The file is broken.
inline absl::Status Malformed(std::string_view field, std::string_view rule, std::string_view got) {
  return absl::InvalidArgumentError(RefusalText(field, rule, got));
}

// The file is sound; it uses something that is not served.
inline absl::Status NotServed(std::string_view field, std::string_view rule, std::string_view got) {
  return absl::UnimplementedError(RefusalText(field, rule, got));
}

// The file is sound; its parts do not make up the model it says it is.
inline absl::Status DoesNotFit(std::string_view field, std::string_view rule,
                               std::string_view got) {
  return absl::FailedPreconditionError(RefusalText(field, rule, got));
}

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_FILE_ERROR_H_
