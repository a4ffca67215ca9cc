// LocalModel: a model in this process, for commands that answer without a server.
#ifndef PREGATE_SERVER_COMMANDS_LOCAL_MODEL_H_
#define PREGATE_SERVER_COMMANDS_LOCAL_MODEL_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/generation/client_request.h"
#include "server/generation/served_model.h"
#include "server/metrics/metrics.h"

namespace pregate {

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

// What an answer came to.
struct LocalAnswer {
  std::string text;
  std::vector<int32_t> token_ids;
  FinishReason finish = FinishReason::kNone;
  AnswerRecord record;
};

class LocalModel {
 public:
  // Loads it, with a bar on a terminal. `chat_template` is the path of a file, or empty. Errors are
  // those of Engine::Create and ReadChatTemplate.
  static absl::StatusOr<std::unique_ptr<LocalModel>> Load(const std::string& path,
                                                          EngineOptions options,
                                                          const std::string& chat_template);

  // Gives `write` the text as it comes, whole characters. An error of `write`, and an interrupt,
  // end the answer. Errors: those of ServedModel::Translate, Engine::Submit and `write`; INTERNAL
  // when a step fails. An interrupted answer has the finish kCancelled.
  absl::StatusOr<LocalAnswer> Ask(ClientRequest request,
                                  const std::function<absl::Status(const std::string&)>& write);

  const ServedModel& served() const { return *served_; }
  // For others who wait for the engine; it outlives the engine.
  Event& news() { return news_; }

 private:
  LocalModel() = default;

  Event news_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<ServedModel> served_;
};

// "12 prompt tokens in 0.05 s; 30 tokens in 0.21 s, 138.1 tokens/s"; "" without any token.
std::string FiguresOf(const AnswerRecord& answer);

// How fast tokens came after the first; 0 where there is no second.
double TokensPerSecond(const AnswerRecord& answer);

}  // namespace pregate

#endif  // PREGATE_SERVER_COMMANDS_LOCAL_MODEL_H_
