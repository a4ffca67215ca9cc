#include "server/tracing/collector_url.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace pregate {
namespace {

constexpr absl::string_view kScheme = "http://";

bool ReadPort(absl::string_view text, int* port) {
  return std::all_of(text.begin(), text.end(), absl::ascii_isdigit) &&
         absl::SimpleAtoi(text, port) && *port >= 1 && *port <= 65535;
}

bool ReadAuthority(absl::string_view text, CollectorUrl* url) {
  if (absl::ConsumePrefix(&text, "[")) {
    const size_t end = text.find(']');
    if (end == absl::string_view::npos) return false;
    url->host = std::string(text.substr(0, end));
    text.remove_prefix(end + 1);
  } else {
    const size_t colon = std::min(text.find(':'), text.size());
    url->host = std::string(text.substr(0, colon));
    text.remove_prefix(colon);
  }
  if (url->host.empty()) return false;
  return text.empty() || (absl::ConsumePrefix(&text, ":") && ReadPort(text, &url->port));
}

}  // namespace

std::string CollectorUrl::authority() const {
  const bool ipv6 = absl::StrContains(host, ":");
  return absl::StrCat(ipv6 ? "[" : "", host, ipv6 ? "]:" : ":", port);
}

absl::StatusOr<CollectorUrl> ReadCollectorUrl(absl::string_view text) {
  CollectorUrl url;
  absl::string_view rest = text;
  const bool clean = std::all_of(text.begin(), text.end(), absl::ascii_isgraph) &&
                     text.find_first_of("@?#") == absl::string_view::npos;
  if (clean && absl::ConsumePrefix(&rest, kScheme)) {
    const size_t slash = std::min(rest.find('/'), rest.size());
    // A path that says nothing is none.
    if (slash + 1 < rest.size()) url.path = std::string(rest.substr(slash));
    if (ReadAuthority(rest.substr(0, slash), &url)) return url;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("otlp-traces-endpoint: must be http://HOST[:PORT][/PATH]; got \"",
                   absl::string_view(text).substr(0, 256), "\""));
}

}  // namespace pregate
