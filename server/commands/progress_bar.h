// ProgressBar: how far something long has come, redrawn in place.
#ifndef PREGATE_SERVER_COMMANDS_PROGRESS_BAR_H_
#define PREGATE_SERVER_COMMANDS_PROGRESS_BAR_H_

#include <string>

namespace pregate {

// On standard error, and only where that is a terminal. The line is wiped at the end.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Show(double share);  // [0, 1]

 private:
  const std::string label_;
  const bool visible_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_COMMANDS_PROGRESS_BAR_H_
