// Any bytes as what a collector of traces answers: as its body, and as its header Retry-After.
#include <cstdlib>

#include "server/tracing/otlp_json.h"
#include "tests/fuzz/fuzz_target.h"

namespace pregate {

std::vector<std::string> FuzzSeeds() {
  return {"{}", R"({"partialSuccess":{"rejectedSpans":"3","errorMessage":"too many"}})",
          R"({"partialSuccess":{"rejectedSpans":3}})", "120", "Wed, 21 Oct 2026 07:28:00 GMT"};
}

}  // namespace pregate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pregate;  // NOLINT: the whole body speaks of it
  constexpr int64_t kSent = 512;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const int64_t rejected = RejectedSpans(text, kSent);
  if (rejected < 0 || rejected > kSent) std::abort();
  const auto wait = RetryAfter(text, absl::FromUnixSeconds(1'790'000'000));
  if (wait.has_value() && *wait < absl::ZeroDuration()) std::abort();
  return 0;
}
