// StreamPump: the thread that moves what the engine has generated on to the streams of clients.
#ifndef PREGATE_SERVER_GENERATION_STREAM_PUMP_H_
#define PREGATE_SERVER_GENERATION_STREAM_PUMP_H_

#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace pregate {

// A stream to a client. Every method may be called from any thread and must not block.
class PumpedStream {
 public:
  virtual ~PumpedStream() = default;
  // Writes what there is to write, if nothing is being written.
  virtual void Advance() = 0;
  // Gives up a client that has stopped reading.
  virtual void CheckStall(std::chrono::steady_clock::time_point now) = 0;
  // Ends early; what has been generated is still written.
  virtual void Abort(const absl::Status& why) = 0;
};

class StreamPump {
 public:
  static constexpr absl::Duration kTick = absl::Seconds(1);

  // `on_tick` is called on the pump's thread every kTick.
  explicit StreamPump(std::function<void()> on_tick);
  // Joins the thread. Streams that are left are not touched any more.
  ~StreamPump();
  StreamPump(const StreamPump&) = delete;
  StreamPump& operator=(const StreamPump&) = delete;

  // From now on the stream takes part in CheckStall and AbortAll, as long as it lives.
  void Add(std::weak_ptr<PumpedStream> stream);
  // Has the stream advanced soon. Cheap: for the engine's thread.
  void Wake(std::weak_ptr<PumpedStream> stream);
  void AbortAll(const absl::Status& why);

 private:
  using Streams = std::vector<std::weak_ptr<PumpedStream>>;

  void Run();
  void Tick();
  std::vector<std::shared_ptr<PumpedStream>> Live();
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !awake_.empty();
  }

  const std::function<void()> on_tick_;
  absl::Mutex mutex_;
  Streams streams_ ABSL_GUARDED_BY(mutex_);  // those that ended are dropped at each tick
  Streams awake_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: starts when everything above stands
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_STREAM_PUMP_H_
