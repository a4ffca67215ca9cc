// Why a request was turned away, as the metrics count it.
#ifndef PREGATE_SERVER_GENERATION_REJECTION_H_
#define PREGATE_SERVER_GENERATION_REJECTION_H_

#include "absl/status/status.h"
#include "server/metrics/metrics.h"

namespace pregate {

inline Rejection RejectionOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
      return Rejection::kQueueFull;
    case absl::StatusCode::kUnavailable:
      return Rejection::kDraining;
    case absl::StatusCode::kNotFound:
      return Rejection::kNotFound;
    case absl::StatusCode::kUnimplemented:
      return Rejection::kUnimplemented;
    case absl::StatusCode::kUnauthenticated:
      return Rejection::kUnauthenticated;
    default:
      return Rejection::kInvalid;
  }
}

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_REJECTION_H_
