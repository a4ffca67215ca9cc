#include "server/commands/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

namespace pregate {

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)), visible_(isatty(STDERR_FILENO) == 1) {
  Show(0.0);
}

ProgressBar::~ProgressBar() {
  if (visible_) std::fputs("\r\x1b[K", stderr);  // to the line's start, clear to its end
}

void ProgressBar::Show(double share) {
  if (!visible_) return;
  constexpr int kWidth = 40;
  const int done = static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * kWidth));
  std::fprintf(stderr, "\r%s [%s%s]", label_.c_str(), std::string(done, '#').c_str(),
               std::string(kWidth - done, '.').c_str());
}

}  // namespace pregate
