// In place of frame_client.cc where there is no libnghttp2.
#include "absl/status/status.h"
#include "load_tests/loadgen/frame_client.h"

namespace pregate {

absl::StatusOr<std::vector<RequestRecord>> RunFrameLoad(const ClientOptions& /*options*/,
                                                        const Load& /*load*/,
                                                        const Prompts& /*prompts*/) {
  return absl::UnimplementedError(
      "--kernel-times: over gRPC it needs libnghttp2, which this was built without "
      "(deploy/install_deps.sh --test installs it)");
}

}  // namespace pregate
