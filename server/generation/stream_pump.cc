#include "server/generation/stream_pump.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/time/clock.h"
#include "server/generation/gather.h"

namespace pregate {
namespace {

// Of pauses until one brings nothing more: the streams of a step are written in the order in which
// the engine has them, none while it is at others.
constexpr int kMaxGathers = 20;

}  // namespace

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
    Streams awake;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithDeadline(absl::Condition(this, &StreamPump::HasWork), next_tick);
      if (stopping_) return;
      awake.swap(awake_);
    }
    size_t had = 0;
    for (int pauses = 0; awake.size() > had && pauses < kMaxGathers; ++pauses) {
      had = awake.size();
      absl::SleepFor(kGather);
      absl::MutexLock lock(&mutex_);
      std::move(awake_.begin(), awake_.end(), std::back_inserter(awake));
      awake_.clear();
    }
    for (const auto& weak : awake) {
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
