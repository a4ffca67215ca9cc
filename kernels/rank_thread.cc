#include "kernels/rank_thread.h"

#include <cassert>
#include <utility>

#include "kernels/await_change.h"

namespace pregate {

RankThread::~RankThread() {
  Wait();
  state_.store(kEnds, std::memory_order_release);
  state_.notify_all();
  thread_.join();
}

void RankThread::Start(std::function<void()> call) {
  assert(state_.load(std::memory_order_acquire) == kIdle);
  call_ = std::move(call);
  state_.store(kCalled, std::memory_order_release);
  state_.notify_all();
}

void RankThread::Wait() const { AwaitChange(state_, kCalled, may_spin_); }

void RankThread::Main() {
  for (;;) {
    AwaitChange(state_, kIdle, may_spin_);
    if (state_.load(std::memory_order_acquire) == kEnds) return;
    call_();
    state_.store(kIdle, std::memory_order_release);
    state_.notify_all();
  }
}

}  // namespace pregate
