// AnswerStall: whether the client of a call with one answer takes it. Private to server/grpc.
#ifndef PREGATE_SERVER_GRPC_ANSWER_STALL_H_
#define PREGATE_SERVER_GRPC_ANSWER_STALL_H_

#include <chrono>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace pregate {

// The library tells when the whole answer has gone, not how much of it has: a large one has more
// time, whether any of it is taken or not.
class AnswerStall {
 public:
  static constexpr size_t kSlowestReader = 128 << 10;  // bytes a second

  // The answer, of so many bytes, is handed to the library.
  void Begin(size_t bytes) {
    started_ = std::chrono::steady_clock::now();
    bytes_ = bytes;
  }
  // CANCELLED: it should have gone by now.
  absl::Status Check(std::chrono::steady_clock::time_point now, absl::Duration patience) const {
    patience += absl::Seconds(bytes_ / kSlowestReader);
    if (absl::FromChrono(now - started_) < patience) return absl::OkStatus();
    return absl::CancelledError(absl::StrCat("call: must be read; its reader stalled for ",
                                             absl::FormatDuration(patience)));
  }

 private:
  std::chrono::steady_clock::time_point started_;
  size_t bytes_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_ANSWER_STALL_H_
