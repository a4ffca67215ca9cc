#include "server/http/http_message.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/generation/retry_delay.h"

namespace pregate {

absl::string_view HttpRequest::Header(absl::string_view name) const {
  const auto it = std::find_if(headers.begin(), headers.end(),
                               [name](const auto& header) { return header.first == name; });
  return it == headers.end() ? absl::string_view() : absl::string_view(it->second);
}

int HttpStatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kCancelled:
      return 499;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

HttpResponse HttpRefusal(const absl::Status& status, HttpErrorFormat format) {
  return HttpRefusal(HttpStatusOf(status), status, format);
}

HttpResponse HttpRefusal(int http_status, const absl::Status& status, HttpErrorFormat format) {
  HttpResponse response = format(http_status, status);
  response.status = http_status;
  if (http_status == 401) response.headers.emplace_back("www-authenticate", "Bearer");
  if (http_status == 429 || http_status == 503) {
    // The header has whole seconds.
    const int64_t seconds = absl::ToInt64Seconds(absl::Ceil(NextRetryDelay(), absl::Seconds(1)));
    response.headers.emplace_back("retry-after", absl::StrCat(seconds));
  }
  return response;
}

}  // namespace pregate
