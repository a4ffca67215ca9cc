// Waiting for another thread. Private to kernels.
#ifndef PREGATE_KERNELS_AWAIT_CHANGE_H_
#define PREGATE_KERNELS_AWAIT_CHANGE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace pregate {

// Returns once `value` is not `seen`. With `may_spin` it looks for as long as a few kernels take
// before it sleeps: to be woken takes longer than most waits.
inline void AwaitChange(const std::atomic<uint32_t>& value, uint32_t seen, bool may_spin) {
  const auto changed = [&] { return value.load(std::memory_order_acquire) != seen; };
  if (may_spin && !changed()) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
    do {
      for (int i = 0; i < 32 && !changed(); ++i) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#else
        std::this_thread::yield();
#endif
      }
    } while (!changed() && std::chrono::steady_clock::now() < deadline);
  }
  value.wait(seen, std::memory_order_acquire);
}

}  // namespace pregate

#endif  // PREGATE_KERNELS_AWAIT_CHANGE_H_
