// OverloadWatch: tells a queue that has long been too short from one that a burst has filled.
#ifndef PREGATE_SERVER_GENERATION_OVERLOAD_WATCH_H_
#define PREGATE_SERVER_GENERATION_OVERLOAD_WATCH_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace pregate {

// Overload begins when requests have been refused for want of room in the queue for `patience`,
// with no pause longer than kPause between two of them. It ends when none has been refused for
// longer than kPause and at most half as many wait as at the worst of it: a server that is sent
// nothing more because it said so does not come back for a moment only. Zero patience: never. Look
// once a second or so.
class OverloadWatch {
 public:
  static constexpr absl::Duration kPause = absl::Seconds(3);

  explicit OverloadWatch(absl::Duration patience) : patience_(patience) {}

  // `refused`: all that a full queue has refused so far; `waiting`: requests in it.
  bool Overloaded(int64_t refused, int32_t waiting, absl::Time now) {
    if (patience_ <= absl::ZeroDuration()) return false;
    const bool paused = now - last_refusal_ > kPause;
    if (refused > refused_) {
      if (paused && !overloaded_) {
        since_ = now;
        most_waiting_ = 0;
      }
      refused_ = refused;
      last_refusal_ = now;
      overloaded_ |= now - since_ >= patience_;
    } else if (paused && waiting <= most_waiting_ / 2) {
      overloaded_ = false;
    }
    most_waiting_ = std::max(most_waiting_, waiting);
    return overloaded_;
  }

 private:
  const absl::Duration patience_;
  int64_t refused_ = 0;
  absl::Time since_ = absl::InfinitePast();         // the first refusal after a pause
  absl::Time last_refusal_ = absl::InfinitePast();  // the newest
  int32_t most_waiting_ = 0;                        // since then
  bool overloaded_ = false;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_OVERLOAD_WATCH_H_
