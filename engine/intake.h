// Intake: whether an engine takes a request, and how much of what it took waits or has not ended.
#ifndef PREGATE_ENGINE_INTAKE_H_
#define PREGATE_ENGINE_INTAKE_H_

#include <cstdint>

#include "absl/status/status.h"

namespace pregate {

// Requests are counted by their answers. Not thread-safe: an engine's lock guards it.
class Intake {
 public:
  // Bounds of what may wait: requests, and their prompt tokens.
  Intake(int64_t max_requests, int64_t max_tokens)
      : max_requests_(max_requests), max_tokens_(max_tokens) {}

  // Takes in `requests` of `tokens` prompt tokens together: they wait. UNAVAILABLE after Stop, and
  // after StartDrain for what does not continue a call; RESOURCE_EXHAUSTED beyond the bounds.
  absl::Status Take(int64_t requests, int64_t tokens, bool continues);
  // Some of these wait no longer: a step has taken them up, or they end without one.
  void LeaveQueue(int64_t requests, int64_t tokens) {
    queued_ -= requests;
    queued_tokens_ -= tokens;
  }
  void End(int64_t requests) { live_ -= requests; }

  void StartDrain() { draining_ = true; }
  void Stop() { stopping_ = true; }
  bool draining() const { return draining_; }
  bool stopping() const { return stopping_; }

  int64_t queued() const { return queued_; }
  int64_t live() const { return live_; }  // those in the queue, too
  bool idle() const { return live_ == 0; }

 private:
  const int64_t max_requests_;
  const int64_t max_tokens_;
  int64_t queued_ = 0;
  int64_t queued_tokens_ = 0;
  int64_t live_ = 0;
  bool draining_ = false;
  bool stopping_ = false;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_INTAKE_H_
