// What commands read from standard input and write to a terminal, or to whatever stands there.
#ifndef PREGATE_SERVER_COMMANDS_TERMINAL_H_
#define PREGATE_SERVER_COMMANDS_TERMINAL_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pregate {

bool IsTerminal(int fd);

// Words in colour: only on a terminal that has them, and not where NO_COLOR is set to anything.
enum class Colour : uint8_t { kPrompt, kDim };
std::string InColour(absl::string_view text, Colour colour, int fd);

// Text of a model without what would move a terminal's cursor or change its settings: control
// characters but newline and tab.
std::string WithoutControls(absl::string_view text);

// Writes to standard output at once, on a terminal without controls. UNAVAILABLE when whoever reads
// it has left, INTERNAL when it cannot be written otherwise.
absl::Status WriteOut(absl::string_view text);

// `text`, or where that is "-" all of standard input, at most 8 MiB, less one newline at the end.
// INVALID_ARGUMENT "prompt: ...".
absl::StatusOr<std::string> TextOrInput(const std::string& text);

// Lines of standard input.
class LineReader {
 public:
  enum class Outcome : uint8_t { kLine, kEnd, kInterrupted };

  // The next line, without its newline. A line that a backslash ends goes on in the next one.
  Outcome Next(std::string* line);

 private:
  std::string buffer_;
  bool ended_ = false;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_COMMANDS_TERMINAL_H_
