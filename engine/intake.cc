#include "engine/intake.h"

#include "absl/strings/str_cat.h"

namespace pregate {

absl::Status Intake::Take(int64_t requests, int64_t tokens, bool continues) {
  if (stopping_ || (draining_ && !continues)) {
    return absl::UnavailableError("server: draining; try another replica");
  }
  // Overload is an answer: said before any work is done.
  if (queued_ + requests > max_requests_) {
    return absl::ResourceExhaustedError(absl::StrCat("queue: must hold at most ", max_requests_,
                                                     " requests; got ", queued_ + requests));
  }
  if (queued_tokens_ + tokens > max_tokens_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "queue: must hold at most ", max_tokens_, " prompt tokens; got ", queued_tokens_ + tokens));
  }
  queued_ += requests;
  queued_tokens_ += tokens;
  live_ += requests;
  return absl::OkStatus();
}

}  // namespace pregate
