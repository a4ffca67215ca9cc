// RankThread: a thread that makes one call at a time, as the ranks beside the caller's need.
#ifndef PREGATE_KERNELS_RANK_THREAD_H_
#define PREGATE_KERNELS_RANK_THREAD_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>

namespace pregate {

class RankThread {
 public:
  // `may_spin`: see MakeHostCommunicators.
  explicit RankThread(bool may_spin) : may_spin_(may_spin), thread_([this] { Main(); }) {}
  // Waits for the call that runs.
  ~RankThread();
  RankThread(const RankThread&) = delete;
  RankThread& operator=(const RankThread&) = delete;

  // Makes `call` on the thread. The one before has ended: Wait has been called.
  void Start(std::function<void()> call);
  void Wait() const;

 private:
  enum State : uint32_t { kIdle, kCalled, kEnds };

  void Main();

  const bool may_spin_;
  std::function<void()> call_;  // the thread's while state_ is kCalled, else the owner's
  std::atomic<uint32_t> state_ = kIdle;
  std::thread thread_;  // last: starts when everything above stands
};

}  // namespace pregate

#endif  // PREGATE_KERNELS_RANK_THREAD_H_
