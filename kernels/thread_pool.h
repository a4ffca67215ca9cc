// A fork-join pool: the caller and a few workers share out one loop at a time.
#ifndef PREGATE_KERNELS_THREAD_POOL_H_
#define PREGATE_KERNELS_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace pregate {

// Loops are issued from one thread at a time. Every thread has a share of a loop's chunks, the same
// from loop to loop, so that it meets again what its caches and its memory node hold; who is done
// with its own takes from the others. A slow or descheduled thread costs at most the chunk that it
// holds, and a worker that wakes up too late is not waited for.
class ThreadPool {
 public:
  // Starts `threads - 1` workers (threads >= 1). With `may_spin` they poll for a few tens of
  // microseconds after a loop before they sleep; without it (more threads than processors) they
  // sleep at once.
  ThreadPool(int threads, bool may_spin);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // See Device::ParallelFor.
  void ParallelFor(int64_t count, int64_t grain,
                   absl::FunctionRef<void(int64_t begin, int64_t end)> body);

 private:
  struct Loop {
    uint64_t number = 0;  // tells one loop's shares from another's
    const absl::FunctionRef<void(int64_t, int64_t)>* body = nullptr;
    int64_t count = 0;
    int64_t grain = 0;
    int64_t chunks = 0;
  };
  // How many chunks of a share are taken, and in which loop: see TakeChunk.
  struct alignas(64) Share {
    std::atomic<uint64_t> taken{0};
  };

  void WorkerMain(int thread);
  void RunChunks(int thread);
  // The number of a chunk of this share that nobody has, or -1.
  int64_t TakeChunk(int share);
  // Returns the gate's value once it differs from `seen` in a bit of `mask`.
  uint32_t AwaitChange(uint32_t seen, uint32_t mask);

  const bool may_spin_;
  // Who may touch `loop_`: see the bit layout in thread_pool.cc.
  alignas(64) std::atomic<uint32_t> gate_{0};
  alignas(64) Loop loop_;
  std::vector<Share> shares_;  // [threads]
  std::vector<std::thread> workers_;
};

}  // namespace pregate

#endif  // PREGATE_KERNELS_THREAD_POOL_H_
