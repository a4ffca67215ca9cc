#include "server/commands/terminal.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/commands/interrupt.h"

namespace pregate {
namespace {

constexpr size_t kMaxInputBytes = 8 << 20;

bool HasColours(int fd) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return IsTerminal(fd) && (no_color == nullptr || *no_color == '\0') &&
         (term == nullptr || std::strcmp(term, "dumb") != 0);
}

// -1: it was interrupted.
ssize_t ReadInput(std::string* to) {
  pollfd inputs[] = {{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                     {.fd = InterruptFd(), .events = POLLIN, .revents = 0}};
  while (poll(inputs, std::size(inputs), -1) < 0 && errno == EINTR) {
  }
  if (inputs[1].revents != 0) return -1;
  char bytes[4096];
  const ssize_t count = read(STDIN_FILENO, bytes, sizeof(bytes));
  if (count > 0) to->append(bytes, static_cast<size_t>(count));
  return count < 0 && errno != EINTR ? 0 : count;
}

}  // namespace

bool IsTerminal(int fd) { return isatty(fd) == 1; }

std::string InColour(absl::string_view text, Colour colour, int fd) {
  if (!HasColours(fd)) return std::string(text);
  return absl::StrCat(colour == Colour::kPrompt ? "\x1b[1;32m" : "\x1b[2m", text, "\x1b[0m");
}

std::string WithoutControls(absl::string_view text) {
  std::string clean;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool control = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f;
    // U+0080 to U+009F, the controls of eight bits.
    const bool wide =
        byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (wide) ++i;
    if (!control && !wide) clean += text[i];
  }
  return clean;
}

absl::Status WriteOut(absl::string_view text) {
  const std::string shown = IsTerminal(STDOUT_FILENO) ? WithoutControls(text) : std::string(text);
  errno = 0;
  const bool written = std::fwrite(shown.data(), 1, shown.size(), stdout) == shown.size() &&
                       std::fflush(stdout) == 0;
  if (written) return absl::OkStatus();
  if (errno == EPIPE) return absl::UnavailableError("output: its reader has left");
  return absl::InternalError(absl::StrCat("output: must be writable; got ", std::strerror(errno)));
}

absl::StatusOr<std::string> TextOrInput(const std::string& text) {
  if (text != "-") return text;
  std::string input;
  while (input.size() <= kMaxInputBytes && !Interrupted()) {
    if (ReadInput(&input) == 0) {
      absl::string_view rest = input;
      absl::ConsumeSuffix(&rest, "\n");
      return std::string(rest);
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("prompt: must be at most ", kMaxInputBytes, " bytes; got more"));
}

LineReader::Outcome LineReader::Next(std::string* line) {
  line->clear();
  for (;;) {
    const size_t end = buffer_.find('\n');
    if (end != std::string::npos || (ended_ && !buffer_.empty())) {
      const bool goes_on = end != std::string::npos && end > 0 && buffer_[end - 1] == '\\';
      line->append(buffer_, 0, goes_on ? end - 1 : end);
      buffer_.erase(0, end == std::string::npos ? end : end + 1);
      if (!goes_on) return Outcome::kLine;
      *line += '\n';
      continue;
    }
    if (ended_) return line->empty() ? Outcome::kEnd : Outcome::kLine;
    const ssize_t count = ReadInput(&buffer_);
    if (count < 0) {
      buffer_.clear();
      return Outcome::kInterrupted;
    }
    ended_ = count == 0;
  }
}

}  // namespace pregate
