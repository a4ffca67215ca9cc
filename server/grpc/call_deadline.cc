#include "server/grpc/call_deadline.h"

#include <grpc/support/time.h>

#include <algorithm>

#include "absl/time/clock.h"

namespace pregate {
namespace {

constexpr absl::Duration kLongestLead = absl::Milliseconds(50);
constexpr int kLeadShare = 20;

}  // namespace

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const gpr_timespec deadline = gpr_convert_clock_type(context.raw_deadline(), GPR_CLOCK_REALTIME);
  if (gpr_time_cmp(deadline, gpr_inf_future(GPR_CLOCK_REALTIME)) == 0) {
    return absl::InfiniteFuture();
  }
  const absl::Time time =
      absl::FromUnixSeconds(deadline.tv_sec) + absl::Nanoseconds(deadline.tv_nsec);
  const absl::Duration left = std::max(time - absl::Now(), absl::ZeroDuration());
  return time - std::min(left / kLeadShare, kLongestLead);
}

}  // namespace pregate
