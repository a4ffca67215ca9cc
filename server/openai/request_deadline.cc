#include "server/openai/request_deadline.h"

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "server/generation/field_error.h"

namespace pregate {
namespace {

constexpr char kTimeoutHeader[] = "x-request-timeout";
constexpr double kLongestTimeout = 1e9;  // seconds; whoever says more means none

}  // namespace

absl::StatusOr<absl::Time> DeadlineOf(const HttpRequest& request) {
  const absl::string_view header = request.Header(kTimeoutHeader);
  if (header.empty()) return absl::InfiniteFuture();
  double seconds = 0;
  if (!absl::SimpleAtod(header, &seconds) || !(seconds > 0)) {
    return FieldError(kTimeoutHeader, "be a number of seconds above 0", header);
  }
  if (seconds > kLongestTimeout) return absl::InfiniteFuture();
  return absl::Now() + absl::Seconds(seconds);
}

}  // namespace pregate
