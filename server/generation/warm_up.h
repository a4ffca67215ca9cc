// WarmUp: the first step, taken before anybody asks.
#ifndef PREGATE_SERVER_GENERATION_WARM_UP_H_
#define PREGATE_SERVER_GENERATION_WARM_UP_H_

#include "absl/status/status.h"
#include "engine/engine.h"

namespace pregate {

// Has the engine make one token, or read one text: what the first step prepares is prepared then,
// and a model that loads but cannot be computed is no server. The engine must be at rest; it is so
// again at the end. INTERNAL when the step fails; what Submit and Encode say when it is refused.
absl::Status WarmUp(Engine* engine);

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_WARM_UP_H_
