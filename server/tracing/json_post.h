// One POST of JSON over HTTP/1.1.
#ifndef PREGATE_SERVER_TRACING_JSON_POST_H_
#define PREGATE_SERVER_TRACING_JSON_POST_H_

#include <string>

#include "absl/status/statusor.h"
#include "server/tracing/collector_url.h"
#include "server/tracing/host_lookup.h"

namespace pregate {

struct PostReply {
  int http_status = 0;
  std::string retry_after;  // the header, or ""
  std::string body;         // "" when it was longer than 64 KiB
};

// Connects, asks, reads the answer and hangs up; blocks until then or until `deadline`.
// UNAVAILABLE: there was no answer; DEADLINE_EXCEEDED. The library's headers stay behind this.
absl::StatusOr<PostReply> PostJson(const CollectorUrl& url, const std::string& body,
                                   HostLookup* lookup, const MovingDeadline& deadline);

}  // namespace pregate

#endif  // PREGATE_SERVER_TRACING_JSON_POST_H_
