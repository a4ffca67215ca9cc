#include "load_tests/loadgen/pace.h"

#include <algorithm>

namespace pregate {

bool Pace::IsDue() const {
  if (next_ == records_.size()) return false;
  return is_closed() ? in_flight_ < load_.concurrency : load_.requests[next_].time_s <= Now();
}

std::optional<double> Pace::UntilDue() const {
  if (is_closed() || next_ == records_.size()) return std::nullopt;
  return load_.requests[next_].time_s - Now();
}

timespec Pace::Wait(double longest_s) const {
  const double wait = std::clamp(UntilDue().value_or(longest_s), 0.0, longest_s);
  return {0, static_cast<long>(1e9 * wait)};
}

RequestRecord* Pace::Begin(size_t* number) {
  *number = next_++;
  const Arrival& arrival = load_.requests[*number];
  RequestRecord& record = records_[*number];
  record.intended_s = is_closed() ? Now() : arrival.time_s;
  record.prompt_tokens = arrival.prompt_tokens;
  record.max_tokens = arrival.max_tokens;
  ++in_flight_;
  return &record;
}

}  // namespace pregate
