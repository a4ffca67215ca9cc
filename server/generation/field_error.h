// Errors about what a client sent, in the one form that they all have.
#ifndef PREGATE_SERVER_GENERATION_FIELD_ERROR_H_
#define PREGATE_SERVER_GENERATION_FIELD_ERROR_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace pregate {

// A client's bytes as part of a message: in quotes, escaped, at most 64 bytes.
std::string Quoted(absl::string_view value);

// INVALID_ARGUMENT "<field>: must <rule>; got <value>".
absl::Status FieldError(absl::string_view field, absl::string_view rule, int64_t got);
absl::Status FieldError(absl::string_view field, absl::string_view rule, absl::string_view got);

// OK, or a FieldError: `text` is to be at most `max_bytes` of valid UTF-8.
absl::Status CheckText(absl::string_view field, absl::string_view text, int64_t max_bytes);

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_FIELD_ERROR_H_
