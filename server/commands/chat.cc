#include "server/commands/chat.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "server/commands/interrupt.h"
#include "server/commands/local_model.h"
#include "server/commands/terminal.h"
#include "server/config/flag.h"

namespace pregate {
namespace {

constexpr int kReaderLeftExitStatus = 1;
constexpr char kHelp[] =
    "/reset         forget what was said\n"
    "/system TEXT   the same, with another system message (none: without one)\n"
    "/help          this\n"
    "Ctrl-C ends an answer, Ctrl-D the conversation; a backslash ends a line that goes on.\n";

void Say(absl::string_view text) {
  absl::FPrintF(stderr, "%s", InColour(text, Colour::kDim, STDERR_FILENO));
}

class Conversation {
 public:
  Conversation(const ChatConfig& config, LocalModel* model)
      : config_(config), model_(model), talks_(IsTerminal(STDIN_FILENO)), system_(config.system) {}

  // Until the input ends: the exit status.
  int Run() {
    Reset();
    if (talks_) Say("/help lists what else there is; Ctrl-D leaves.\n");
    for (;;) {
      if (talks_) absl::FPrintF(stderr, "%s", InColour("> ", Colour::kPrompt, STDERR_FILENO));
      std::string line;
      switch (lines_.Next(&line)) {
        case LineReader::Outcome::kEnd:
          if (talks_) Say("\n");
          return 0;
        case LineReader::Outcome::kInterrupted:
          if (!talks_) return kInterruptedExitStatus;
          TakeInterrupt();
          Say("\nCtrl-D leaves.\n");
          continue;
        case LineReader::Outcome::kLine:
          break;
      }
      if (absl::StripAsciiWhitespace(line).empty()) continue;
      if (absl::StartsWith(line, "/")) {
        Obey(line);
      } else if (const std::optional<int> exit_status = Answer(std::move(line))) {
        return *exit_status;
      }
    }
  }

 private:
  void Reset() {
    messages_.clear();
    if (!system_.empty()) messages_.push_back({"system", system_});
  }

  void Obey(absl::string_view line) {
    const size_t end = line.find(' ');
    const absl::string_view word = line.substr(0, end);
    const absl::string_view rest =
        end == absl::string_view::npos ? "" : absl::StripAsciiWhitespace(line.substr(end));
    if (word == "/reset") {
      Reset();
    } else if (word == "/system") {
      system_ = std::string(rest);
      Reset();
    } else if (word == "/help") {
      return Say(kHelp);
    } else {
      return Say(absl::StrCat("no such command: ", Shown(word), "; /help lists them\n"));
    }
    if (talks_) Say("from the beginning\n");
  }

  // Nothing: the conversation goes on.
  std::optional<int> Answer(std::string question) {
    messages_.push_back({"user", std::move(question)});
    absl::StatusOr<LocalAnswer> answer = model_->Ask(Request(), WriteOut);
    absl::Status status = answer.status();
    if (status.ok()) status = WriteOut("\n");
    if (absl::IsUnavailable(status)) return kReaderLeftExitStatus;
    if (!status.ok()) {
      messages_.pop_back();
      absl::FPrintF(stderr, "pregate: %s\n", status.message());
      if (absl::StrContains(status.message(), "context_length_exceeded")) {
        Say("the conversation has become too long for the model; /reset begins anew\n");
      }
      return std::nullopt;
    }
    messages_.push_back({"assistant", std::move(answer->text)});
    if (TakeInterrupt() && !talks_) return kInterruptedExitStatus;
    const std::string figures = FiguresOf(answer->record);
    if (IsTerminal(STDERR_FILENO) && !figures.empty()) Say(absl::StrCat(figures, "\n"));
    return std::nullopt;
  }

  ClientRequest Request() const {
    ClientRequest request;
    request.prompt = messages_;
    request.max_tokens = config_.max_tokens;
    request.sampling.temperature = static_cast<float>(config_.temperature);
    request.sampling.top_p = static_cast<float>(config_.top_p);
    request.sampling.top_k = config_.top_k;
    request.seed = config_.seed;
    return request;
  }

  const ChatConfig& config_;
  LocalModel* const model_;
  const bool talks_;  // somebody sits there and types
  LineReader lines_;
  std::string system_;
  std::vector<ChatMessage> messages_;
};

}  // namespace

absl::StatusOr<int> Chat(const ChatConfig& config) {
  EngineOptions options = config.engine;
  options.max_num_seqs = 1;
  const auto model = LocalModel::Load(config.model, options, config.chat_template);
  if (!model.ok()) return model.status();
  const ServedModel& served = (*model)->served();
  if (!served.engine().model().generates) {
    return absl::UnimplementedError("model: must generate text; got one that reads texts only");
  }
  if (const absl::Status chat = served.chat_status(); !chat.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("chat-template: must be given for this model; got ", chat.message()));
  }
  CatchInterrupts();
  return Conversation(config, model->get()).Run();
}

}  // namespace pregate
