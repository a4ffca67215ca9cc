#include "kernels/thread_pool.h"

#include <algorithm>
#include <cassert>
#include <chrono>

namespace pregate {
namespace {

// The gate: how many workers are inside the loop, whether more may enter, whether the pool ends,
// and a number that tells one loop from the next. The caller writes the loop's fields while the
// gate is shut and nobody is inside; workers read them only between entering and leaving.
constexpr uint32_t kInsideMask = 0xFFFu;
constexpr uint32_t kOpen = 1u << 12;
constexpr uint32_t kStop = 1u << 13;
constexpr uint32_t kEpoch = 1u << 14;
constexpr uint32_t kEpochMask = ~(kEpoch - 1);

// A share's state: the loop's number above the count of chunks taken.
constexpr int kTakenBits = 24;
constexpr uint64_t kTakenMask = (uint64_t{1} << kTakenBits) - 1;

// Longer than the gap between two kernels of a step, shorter than what a sleeper would notice.
constexpr std::chrono::microseconds kSpinTime(50);

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads, bool may_spin)
    : may_spin_(may_spin), shares_(static_cast<size_t>(threads)) {
  assert(threads >= 1 && threads <= static_cast<int>(kInsideMask));
  workers_.reserve(static_cast<size_t>(threads) - 1);
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { WorkerMain(i); });
}

ThreadPool::~ThreadPool() {
  gate_.fetch_or(kStop, std::memory_order_release);
  gate_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

uint32_t ThreadPool::AwaitChange(uint32_t seen, uint32_t mask) {
  const auto changed = [&](uint32_t now) { return ((now ^ seen) & mask) != 0; };
  uint32_t now = gate_.load(std::memory_order_acquire);
  if (may_spin_ && !changed(now)) {
    const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
    do {
      for (int i = 0; i < 32 && !changed(now); ++i) {
        Pause();
        now = gate_.load(std::memory_order_acquire);
      }
    } while (!changed(now) && std::chrono::steady_clock::now() < deadline);
  }
  while (!changed(now)) {
    gate_.wait(now, std::memory_order_acquire);
    now = gate_.load(std::memory_order_acquire);
  }
  return now;
}

void ThreadPool::WorkerMain(int thread) {
  uint32_t seen = 0;
  for (;;) {
    uint32_t gate = AwaitChange(seen, kEpochMask | kStop);
    if (gate & kStop) return;
    seen = gate;
    bool entered = false;
    while ((gate & kOpen) && !entered) {
      entered = gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire);
    }
    if (!entered) continue;
    RunChunks(thread);
    const uint32_t left = gate_.fetch_sub(1, std::memory_order_release) - 1;
    if ((left & (kInsideMask | kOpen)) == 0) gate_.notify_all();  // the caller waits for the last
  }
}

int64_t ThreadPool::TakeChunk(int share) {
  const int64_t begin = loop_.chunks * share / num_threads();
  const int64_t end = loop_.chunks * (share + 1) / num_threads();
  std::atomic<uint64_t>& taken = shares_[static_cast<size_t>(share)].taken;
  uint64_t seen = taken.load(std::memory_order_relaxed);
  for (;;) {
    // The first to come finds the count of an older loop: nobody resets the shares.
    const bool fresh = seen >> kTakenBits == loop_.number;
    const uint64_t before = fresh ? seen & kTakenMask : 0;
    const int64_t chunk = begin + static_cast<int64_t>(before);
    if (chunk >= end) return -1;
    const uint64_t after = loop_.number << kTakenBits | (before + 1);
    if (taken.compare_exchange_weak(seen, after, std::memory_order_relaxed)) return chunk;
  }
}

void ThreadPool::RunChunks(int thread) {
  for (int i = 0; i < num_threads(); ++i) {
    const int share = (thread + i) % num_threads();
    for (int64_t chunk = TakeChunk(share); chunk >= 0; chunk = TakeChunk(share)) {
      const int64_t begin = chunk * loop_.grain;
      (*loop_.body)(begin, std::min(begin + loop_.grain, loop_.count));
    }
  }
}

void ThreadPool::ParallelFor(int64_t count, int64_t grain,
                             absl::FunctionRef<void(int64_t, int64_t)> body) {
  assert(count >= 0 && grain >= 1);
  if (count == 0) return;
  if (count <= grain || workers_.empty()) {
    body(0, count);
    return;
  }
  assert((gate_.load(std::memory_order_relaxed) & (kInsideMask | kOpen)) == 0 && "nested loop");
  const int64_t chunks = (count + grain - 1) / grain;
  assert(chunks <= static_cast<int64_t>(kTakenMask));
  loop_ = {loop_.number + 1, &body, count, grain, chunks};
  gate_.fetch_add(kEpoch + kOpen, std::memory_order_release);
  gate_.notify_all();
  RunChunks(0);
  uint32_t gate = gate_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
  while ((gate & kInsideMask) != 0) gate = AwaitChange(gate, kInsideMask);
}

}  // namespace pregate
