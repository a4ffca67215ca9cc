// Sends a load to a Pregate server over gRPC as frames of HTTP/2 (libnghttp2) on plain TCP, and
// notes when each answer's tokens reach the socket: the same load and the same records as of
// client.h, without gRPC's own library, whose part in what a client sees it leaves out.
#ifndef PREGATE_LOAD_TESTS_LOADGEN_FRAME_CLIENT_H_
#define PREGATE_LOAD_TESTS_LOADGEN_FRAME_CLIENT_H_

#include <vector>

#include "absl/status/statusor.h"
#include "load_tests/loadgen/client.h"

namespace pregate {

// As RunLoad, always by the kernel's times. UNIMPLEMENTED where this was built without libnghttp2.
absl::StatusOr<std::vector<RequestRecord>> RunFrameLoad(const ClientOptions& options,
                                                        const Load& load, const Prompts& prompts);

}  // namespace pregate

#endif  // PREGATE_LOAD_TESTS_LOADGEN_FRAME_CLIENT_H_
