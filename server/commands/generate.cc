#include "server/commands/generate.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/commands/chat_template_file.h"
#include "server/commands/progress_bar.h"
#include "server/generation/generation.h"
#include "server/generation/served_model.h"
#include "server/metrics/metrics.h"

namespace pregate {
namespace {

constexpr int kInterruptedExitStatus = 130;  // as shells report a program that Ctrl-C has ended

volatile std::sig_atomic_t interrupted = 0;

// From now on the first Ctrl-C sets `interrupted`, and the next one ends the process.
void CatchInterrupt() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigaction(SIGINT, &action, nullptr);
}

// Set by the engine's thread, waited for by the one that prints.
class Event {
 public:
  void Set() {
    absl::MutexLock lock(&mutex_);
    set_ = true;
  }

  // Waits until it is set, no longer than `timeout`, and takes it back.
  void Wait(absl::Duration timeout) {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(&set_), timeout);
    set_ = false;
  }

 private:
  absl::Mutex mutex_;
  bool set_ ABSL_GUARDED_BY(mutex_) = false;
};

absl::StatusOr<std::unique_ptr<Engine>> Load(const GenerateConfig& config) {
  EngineOptions options = config.engine;
  options.max_num_seqs = 1;
  options.enable_prefix_caching = false;  // nobody comes after
  ProgressBar bar("Loading");
  return Engine::Create(config.model, options, [&](double share) { bar.Show(share); });
}

ClientRequest AsRequest(const GenerateConfig& config) {
  ClientRequest request;
  if (config.raw) {
    request.prompt = config.prompt;
  } else {
    std::vector<ChatMessage> messages;
    if (!config.system.empty()) messages.push_back({"system", config.system});
    messages.push_back({"user", config.prompt});
    request.prompt = std::move(messages);
  }
  request.max_tokens = config.max_tokens;
  request.sampling.temperature = static_cast<float>(config.temperature);
  request.sampling.top_p = static_cast<float>(config.top_p);
  request.sampling.top_k = config.top_k;
  request.seed = config.seed;
  return request;
}

// Writes the answer as it comes, until it has ended.
void Print(Generation* generation, Event* news) {
  while (!generation->done()) {
    news->Wait(absl::Milliseconds(100));  // a Ctrl-C sets no event
    if (interrupted) generation->Cancel(absl::CancelledError("interrupted"));
    for (const AnswerDelta& delta : generation->Take()) {
      std::fwrite(delta.text.data(), 1, delta.text.size(), stdout);
    }
    std::fflush(stdout);
  }
  std::fputs("\n", stdout);
}

void PrintFigures(const AnswerRecord& answer) {
  if (answer.completion_tokens == 0 || isatty(STDERR_FILENO) == 0) return;
  std::fprintf(stderr, "\n%d prompt tokens in %.2f s", answer.prompt_tokens,
               absl::ToDoubleSeconds(answer.timing.prefill));
  if (answer.completion_tokens > 1) {
    const double seconds = absl::ToDoubleSeconds(answer.timing.decode);
    std::fprintf(stderr, "; %d tokens in %.2f s, %.1f tokens/s", answer.completion_tokens, seconds,
                 (answer.completion_tokens - 1) / seconds);
  }
  std::fputs("\n", stderr);
}

}  // namespace

absl::StatusOr<int> Generate(const GenerateConfig& config) {
  absl::StatusOr<std::string> chat_template = ReadChatTemplate(config.chat_template);
  if (!chat_template.ok()) return chat_template.status();
  Event news;  // outlives the engine, whose thread sets it
  const absl::StatusOr<std::unique_ptr<Engine>> engine = Load(config);
  if (!engine.ok()) return engine.status();
  Metrics metrics(engine->get(), /*served_model_name=*/"", MetricsCompat::kNone);
  const ServedModel model(engine->get(), &metrics,
                          {.name = "", .chat_template = *std::move(chat_template)});
  if (const absl::Status chat = model.chat_status(); !config.raw && !chat.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "chat-template: must be given for this model, or --raw; got ", chat.message()));
  }

  CatchInterrupt();
  const absl::StatusOr<std::shared_ptr<Generation>> generation =
      Generation::Start(&model, AsRequest(config), [&news] { news.Set(); });
  if (!generation.ok()) return generation.status();
  Print(generation->get(), &news);
  if (interrupted) return kInterruptedExitStatus;
  if (!(*generation)->status().ok()) return (*generation)->status();
  PrintFigures((*generation)->record());
  return 0;
}

}  // namespace pregate
