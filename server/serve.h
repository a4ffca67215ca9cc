// `pregate serve`: the server's life from its flags to its exit status.
#ifndef PREGATE_SERVER_SERVE_H_
#define PREGATE_SERVER_SERVE_H_

#include "server/config/config.h"

namespace pregate {

// Loads the model, listens, and serves until SIGTERM or SIGINT; then drains: health says
// NOT_SERVING, new requests are refused after `shutdown_delay`, those that run have `drain_timeout`
// to end, what is left then ends with UNAVAILABLE. Call from the main thread, before any other
// thread exists.
//
// Returns the process's exit status: 0 after an orderly end, 1 when an address cannot be listened
// on, 2 when the model or a flag's value cannot be used. Each error is one line on standard error.
int Serve(const ServeConfig& config);

}  // namespace pregate

#endif  // PREGATE_SERVER_SERVE_H_
