// StreamPumps: the threads that write to gRPC's clients. Private to server/grpc.
#ifndef PREGATE_SERVER_GRPC_STREAM_PUMPS_H_
#define PREGATE_SERVER_GRPC_STREAM_PUMPS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "server/generation/stream_pump.h"

namespace pregate {

// The library writes to the socket on the thread that asks for it, and one thread of these would
// take longer for the streams of a step than the step. What is written to one connection comes from
// one thread: the library lets no two write to it at a time.
class StreamPumps {
 public:
  // `on_tick` is called on one thread every StreamPump::kTick.
  explicit StreamPumps(std::function<void()> on_tick) : first_(std::move(on_tick)) {}

  // For the streams of the connection from `peer`: the same as long as somebody holds it. Both have
  // as many connections, but for one.
  std::shared_ptr<StreamPump> Of(const std::string& peer) {
    absl::MutexLock lock(&connections_->mutex);
    std::weak_ptr<StreamPump>& known = connections_->pumps[peer];
    std::shared_ptr<StreamPump> pump = known.lock();
    if (pump != nullptr) return pump;
    const bool first = connections_->more_on_first <= 0;
    connections_->more_on_first += first ? 1 : -1;
    pump = {first ? &first_ : &second_, [peer, first, all = connections_](StreamPump*) {
              absl::MutexLock lock(&all->mutex);
              all->more_on_first -= first ? 1 : -1;
              const auto it = all->pumps.find(peer);
              // Unless the connection has begun another stream meanwhile.
              if (it != all->pumps.end() && it->second.expired()) all->pumps.erase(it);
            }};
    known = pump;
    return pump;
  }
  void AbortAll(const absl::Status& why) {
    first_.AbortAll(why);
    second_.AbortAll(why);
  }

 private:
  // Who holds a pump may outlive this for a moment.
  struct Connections {
    absl::Mutex mutex;
    std::unordered_map<std::string, std::weak_ptr<StreamPump>> pumps ABSL_GUARDED_BY(mutex);
    int64_t more_on_first ABSL_GUARDED_BY(mutex) = 0;
  };
  const std::shared_ptr<Connections> connections_ = std::make_shared<Connections>();

  StreamPump first_;
  StreamPump second_{[] {}};
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GRPC_STREAM_PUMPS_H_
