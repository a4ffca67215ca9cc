// CollectorUrl: where spans are sent.
#ifndef PREGATE_SERVER_TRACING_COLLECTOR_URL_H_
#define PREGATE_SERVER_TRACING_COLLECTOR_URL_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pregate {

struct CollectorUrl {
  std::string host;  // a name or an address; of IPv6 without brackets
  int port = 4318;
  std::string path = "/v1/traces";

  std::string authority() const;  // "collector:4318", as the Host header has it
};

// "http://HOST[:PORT][/PATH]"; what is left out is as above. INVALID_ARGUMENT for anything else:
// user names, queries, https.
absl::StatusOr<CollectorUrl> ReadCollectorUrl(absl::string_view text);

}  // namespace pregate

#endif  // PREGATE_SERVER_TRACING_COLLECTOR_URL_H_
