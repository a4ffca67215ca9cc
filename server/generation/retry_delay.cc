#include "server/generation/retry_delay.h"

#include <atomic>
#include <cstdint>

namespace pregate {

absl::Duration NextRetryDelay() {
  // Multiples of the golden ratio: each falls into the largest gap that the last ones have left.
  static std::atomic<uint32_t> count = 0;
  const uint32_t spread = count.fetch_add(1, std::memory_order_relaxed) * 0x9e3779b9u;
  return absl::Milliseconds(500 + static_cast<int64_t>(spread >> 22));  // 500...1523
}

}  // namespace pregate
