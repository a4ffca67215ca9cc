// StreamPumps: the threads that write to gRPC's clients. Private to server/grpc.
#ifndef PREGATE_SERVER_GRPC_STREAM_PUMPS_H_
#define PREGATE_SERVER_GRPC_STREAM_PUMPS_H_

#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "server/generation/stream_pump.h"

namespace pregate {

// The library writes to the socket on the thread that asks for it, and one thread of these would
// take longer for the streams of a step than the step. What is written to one connection comes from
// one thread: the library lets no two write to it at a time.
class StreamPumps {
 public:
  // `on_tick` is called on one thread every StreamPump::kTick.
  explicit StreamPumps(std::function<void()> on_tick) : first_(std::move(on_tick)) {}

  // For the streams of the connection from `peer`.
  StreamPump* Of(const std::string& peer) {
    return std::hash<std::string>()(peer) % 2 == 0 ? &first_ : &second_;
  }
  void AbortAll(const absl::Status& why) {
    first_.AbortAll(why);
    second_.AbortAll(why);
  }

 private:
  StreamPump first_;
  StreamPump second_{[] {}};
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_STREAM_PUMPS_H_
