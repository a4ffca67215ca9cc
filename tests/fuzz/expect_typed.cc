#include <cstdio>
#include <cstdlib>

#include "tests/fuzz/fuzz_target.h"

namespace pregate {

void ExpectTyped(const absl::Status& status) {
  if (status.ok()) return;
  const bool code = status.code() == absl::StatusCode::kInvalidArgument ||
                    status.code() == absl::StatusCode::kUnimplemented ||
                    status.code() == absl::StatusCode::kFailedPrecondition;
  const std::string message(status.message());
  // A key of a GGUF file may have 64 KiB, each byte four characters when escaped.
  if (code && message.find(": ") != std::string::npos &&
      message.find("; got ") != std::string::npos && message.size() < 300'000) {
    return;
  }
  std::fprintf(stderr, "not a typed error: %s\n", status.ToString().c_str());
  std::abort();
}

}  // namespace pregate
