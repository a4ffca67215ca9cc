// A request's body as JSON, with bounds on what it may cost.
#ifndef PREGATE_SERVER_OPENAI_JSON_BODY_H_
#define PREGATE_SERVER_OPENAI_JSON_BODY_H_

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pregate {

inline constexpr int kMaxJsonDepth = 64;
inline constexpr int64_t kMaxJsonValues = 1 << 20;  // a value takes 16 to about 100 bytes

// The object that `text` is. INVALID_ARGUMENT: it is no JSON (RFC 8259), no object, too deep or
// too many values, or names something twice, which readers understand differently.
absl::StatusOr<nlohmann::json> ParseJsonBody(absl::string_view text);

// `text` in quotes and escaped; bytes that are no UTF-8 become U+FFFD.
std::string JsonText(absl::string_view text);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_JSON_BODY_H_
