// When an answer must have ended, by what its client says.
#ifndef PREGATE_SERVER_OPENAI_REQUEST_DEADLINE_H_
#define PREGATE_SERVER_OPENAI_REQUEST_DEADLINE_H_

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/http/http_message.h"

namespace pregate {

// From the header x-request-timeout, in seconds ("2.5"); without it, never. INVALID_ARGUMENT.
absl::StatusOr<absl::Time> DeadlineOf(const HttpRequest& request);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_REQUEST_DEADLINE_H_
