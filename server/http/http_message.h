// What an HTTP client asks and what it gets, as plain data.
#ifndef PREGATE_SERVER_HTTP_HTTP_MESSAGE_H_
#define PREGATE_SERVER_HTTP_HTTP_MESSAGE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/tracing/arrival.h"

namespace pregate {

// Of one request, in bytes, whichever front door it comes through.
inline constexpr int kMaxBodyBytes = 16 << 20;

struct HttpRequest {
  std::string method;               // "POST"
  std::string path;                 // as it came, without the query
  std::string query;                // what stands behind '?'
  std::vector<std::string> params;  // what the route's {...} stand for, decoded
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;

  std::string peer;        // "ipv4:127.0.0.1:54321"
  std::string request_id;  // X-Request-Id as it came, or one of ours: a label
  std::string client;      // name of the bearer token; "": nobody needs one
  Arrival arrival;         // of its first bytes

  // The first header of that name (in lower case); "": there is none.
  absl::string_view Header(absl::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

// 400 for INVALID_ARGUMENT, ... as the API's table of status codes says.
int HttpStatusOf(const absl::Status& status);

// How one API words its errors. `http_status` is what the client will see: HttpStatusOf(status), or
// what only HTTP has a number for (405, 408, 413, 415, 431).
using HttpErrorFormat = HttpResponse (*)(int http_status, const absl::Status& status);

// A refusal in `format`, with Retry-After where coming back later may help (429, 503), and
// WWW-Authenticate with 401.
HttpResponse HttpRefusal(const absl::Status& status, HttpErrorFormat format);
HttpResponse HttpRefusal(int http_status, const absl::Status& status, HttpErrorFormat format);

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_HTTP_MESSAGE_H_
