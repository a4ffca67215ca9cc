#include "server/http/route_table.h"

#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace pregate {
namespace {

using Params = std::vector<std::string>;

// "%2F" is '/'; nothing when a '%' is not followed by two hex digits.
std::optional<std::string> Decoded(absl::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size() || !absl::ascii_isxdigit(text[i + 1]) ||
        !absl::ascii_isxdigit(text[i + 2])) {
      return std::nullopt;
    }
    decoded += absl::HexStringToBytes(text.substr(i + 1, 2));
    i += 2;
  }
  return decoded;
}

// The parameters, when `path` has the form that `pattern` describes.
std::optional<Params> Fit(const std::vector<std::string>& pattern,
                          const std::vector<absl::string_view>& path) {
  Params params;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (i >= path.size()) return std::nullopt;
    const bool is_parameter = absl::StartsWith(pattern[i], "{");
    const bool takes_rest = absl::EndsWith(pattern[i], "...}");
    if (!is_parameter) {
      if (pattern[i] != path[i]) return std::nullopt;
      continue;
    }
    const std::string text =
        takes_rest ? absl::StrJoin(path.begin() + i, path.end(), "/") : std::string(path[i]);
    std::optional<std::string> decoded = Decoded(text);
    if (!decoded.has_value() || decoded->empty()) return std::nullopt;
    params.push_back(*std::move(decoded));
    if (takes_rest) return params;
  }
  if (path.size() != pattern.size()) return std::nullopt;
  return params;
}

}  // namespace

RouteTable::RouteTable(std::vector<HttpRoute> routes) {
  for (HttpRoute& route : routes) {
    std::vector<std::string> segments = absl::StrSplit(route.path, '/');
    entries_.push_back({std::move(route), std::move(segments)});
  }
}

RouteTable::Match RouteTable::Find(absl::string_view method, absl::string_view path) const {
  const std::vector<absl::string_view> segments = absl::StrSplit(path, '/');
  Match match;
  std::vector<absl::string_view> allowed;
  for (const Entry& entry : entries_) {
    std::optional<Params> params = Fit(entry.segments, segments);
    if (!params.has_value()) continue;
    const bool gets = entry.route.method == "GET";
    const bool fits = method == entry.route.method || (gets && method == "HEAD");
    allowed.push_back(entry.route.method);
    if (gets) allowed.push_back("HEAD");
    if (match.method_fits || (match.route != nullptr && !fits)) continue;
    match.route = &entry.route;
    match.method_fits = fits;
    match.params = *std::move(params);
  }
  match.allow = absl::StrJoin(allowed, ", ");
  return match;
}

}  // namespace pregate
