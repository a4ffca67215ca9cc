// AnswerStall: whether the client of a call with one answer takes it. Private to server/grpc.
#ifndef PREGATE_SERVER_GRPC_ANSWER_STALL_H_
#define PREGATE_SERVER_GRPC_ANSWER_STALL_H_

#include <grpcpp/server_context.h>

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
  // Ends the call if that should have gone by now, and makes `status` say so.
  void Check(std::chrono::steady_clock::time_point now, absl::Duration patience,
             grpc::CallbackServerContext* context, absl::Status* status) const {
    patience += absl::Seconds(bytes_ / kSlowestReader);
    if (absl::FromChrono(now - started_) < patience) return;
    *status = absl::CancelledError(absl::StrCat("call: must be read; its reader stalled for ",
                                                absl::FormatDuration(patience)));
    context->TryCancel();
  }

 private:
  std::chrono::steady_clock::time_point started_;
  size_t bytes_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_ANSWER_STALL_H_
