#include "server/grpc/status.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/rpc/error_details.pb.h"
#include "server/generation/retry_delay.h"

namespace pregate {
namespace {

google::rpc::BadRequest BadRequestOf(absl::string_view message) {
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  const size_t colon = message.find(": ");
  if (colon == absl::string_view::npos) {
    violation->set_description(std::string(message));
  } else {
    violation->set_field(std::string(message.substr(0, colon)));
    violation->set_description(std::string(message.substr(colon + 2)));
  }
  return bad_request;
}

google::rpc::RetryInfo RetryInfoOf(absl::Duration delay) {
  const int64_t ms = absl::ToInt64Milliseconds(delay);
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(ms / 1000);
  retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(ms % 1000 * 1000000));
  return retry;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status, absl::Duration retry_delay) {
  if (status.ok()) return grpc::Status::OK;
  // The two enumerations have the same values.
  const auto code = static_cast<grpc::StatusCode>(status.raw_code());
  const std::string message(status.message());
  google::rpc::Status details;
  if (absl::IsInvalidArgument(status)) {
    details.add_details()->PackFrom(BadRequestOf(message));
  } else if (absl::IsResourceExhausted(status)) {
    details.add_details()->PackFrom(RetryInfoOf(retry_delay));
  } else {
    return grpc::Status(code, message);
  }
  details.set_code(code);
  details.set_message(message);
  return grpc::Status(code, message, details.SerializeAsString());
}

grpc::Status LastStatus(const absl::Status& status, grpc::CallbackServerContext* context) {
  const absl::Duration retry_delay = NextRetryDelay();
  if (absl::IsResourceExhausted(status)) {
    context->AddTrailingMetadata(kRetryPushbackTrailer,
                                 absl::StrCat(absl::ToInt64Milliseconds(retry_delay)));
  }
  return ToGrpcStatus(status, retry_delay);
}

}  // namespace pregate
