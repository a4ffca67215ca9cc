// HostLookup: from a host's name to its addresses, without waiting longer than one wants to.
#ifndef PREGATE_SERVER_TRACING_HOST_LOOKUP_H_
#define PREGATE_SERVER_TRACING_HOST_LOOKUP_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace pregate {

// When a wait must end. Asked again and again, since it may come nearer meanwhile.
using MovingDeadline = std::function<absl::Time()>;

// For one thread. The system's resolver cannot be interrupted: it runs on a thread of its own,
// which a lookup that is given up leaves behind, and the next one waits for.
class HostLookup {
 public:
  // Numeric addresses, at least one. UNAVAILABLE: there is none; DEADLINE_EXCEEDED.
  absl::StatusOr<std::vector<std::string>> Find(const std::string& host,
                                                const MovingDeadline& deadline);

 private:
  struct Pending;
  std::shared_ptr<Pending> pending_;  // null: nobody is asking
};

}  // namespace pregate

#endif  // PREGATE_SERVER_TRACING_HOST_LOOKUP_H_
