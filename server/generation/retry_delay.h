// When a client that was refused should come back.
#ifndef PREGATE_SERVER_GENERATION_RETRY_DELAY_H_
#define PREGATE_SERVER_GENERATION_RETRY_DELAY_H_

#include "absl/time/time.h"

namespace pregate {

// For who was refused for lack of room: about a second, spread so that those refused together do
// not come back together.
absl::Duration NextRetryDelay();

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_RETRY_DELAY_H_
