#include "server/generation/stream_pump.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "server/generation/gather.h"

namespace pregate {

StreamPump::StreamPump(std::function<void()> on_tick)
    : on_tick_(std::move(on_tick)), thread_([this] { Run(); }) {}

StreamPump::~StreamPump() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void StreamPump::Add(std::weak_ptr<PumpedStream> stream) {
  absl::MutexLock lock(&mutex_);
  streams_.push_back(std::move(stream));
}

void StreamPump::Wake(std::weak_ptr<PumpedStream> stream) {
  absl::MutexLock lock(&mutex_);
  awake_.push_back(std::move(stream));
}

void StreamPump::AbortAll(const absl::Status& why) {
  for (const auto& stream : Live()) stream->Abort(why);
}

void StreamPump::Run() {
  absl::Time next_tick = absl::Now() + kTick;
  for (;;) {
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithDeadline(absl::Condition(this, &StreamPump::HasWork), next_tick);
      if (stopping_) return;
    }
    for (const auto& weak : Gather(&mutex_, &awake_)) {
      if (const std::shared_ptr<PumpedStream> stream = weak.lock()) stream->Advance();
    }
    if (absl::Now() >= next_tick) {
      Tick();
      next_tick = absl::Now() + kTick;
    }
  }
}

void StreamPump::Tick() {
  const auto now = std::chrono::steady_clock::now();
  for (const auto& stream : Live()) stream->CheckStall(now);
  on_tick_();
}

std::vector<std::shared_ptr<PumpedStream>> StreamPump::Live() {
  absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<PumpedStream>> live;
  auto ended = [&live](const std::weak_ptr<PumpedStream>& weak) {
    std::shared_ptr<PumpedStream> stream = weak.lock();
    if (stream == nullptr) return true;
    live.push_back(std::move(stream));
    return false;
  };
  streams_.erase(std::remove_if(streams_.begin(), streams_.end(), ended), streams_.end());
  return live;
}

}  // namespace pregate
