// Fields that clients know and this server does not serve: refused by name, never dropped.
#ifndef PREGATE_SERVER_OPENAI_UNSERVED_FIELDS_H_
#define PREGATE_SERVER_OPENAI_UNSERVED_FIELDS_H_

#include <nlohmann/json.hpp>

#include "absl/status/status.h"

namespace pregate {

// OK when each such field of `body` is absent or has a value that asks for nothing; else
// UNIMPLEMENTED, with the field's name.
absl::Status RefuseUnservedFields(const nlohmann::json& body);

// UNIMPLEMENTED "<field>: must <rule>; got <value>".
absl::Status UnservedError(absl::string_view field, absl::string_view rule,
                           const nlohmann::json& got);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_UNSERVED_FIELDS_H_
