// ServedModel: the model as front doors see it, with the rules for what clients may ask of it.
#ifndef PREGATE_SERVER_GENERATION_SERVED_MODEL_H_
#define PREGATE_SERVER_GENERATION_SERVED_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/generation/client_request.h"
#include "server/generation/overload_watch.h"
#include "server/generation/prompt_encoder.h"
#include "server/generation/sentence_prompts.h"
#include "server/generation/sip_hash.h"
#include "server/metrics/metrics.h"

namespace pregate {

// Of a text for Tokenize.
inline constexpr int64_t kMaxTokenizeBytes = 4 << 20;

struct ServedModelOptions {
  std::string name = {};
  std::string chat_template = {};                           // source; empty: the model's own
  uint64_t default_seed = 0;                                // of requests that bring none
  SentencePrompts prompts = {};                             // of a model that embeds
  absl::Duration overload_patience = absl::ZeroDuration();  // of OverloadWatch
};

// Safe to share between threads.
class ServedModel {
 public:
  // Both must outlive this.
  ServedModel(Engine* engine, Metrics* metrics, const ServedModelOptions& options);

  // What the engine is to be asked. Numbers are the engine's to check. INVALID_ARGUMENT, NOT_FOUND
  // (another model's name), FAILED_PRECONDITION (a chat, and there is no chat template),
  // UNIMPLEMENTED (the model does not generate).
  absl::StatusOr<GenerationRequest> Translate(ClientRequest request) const;

  // What every request says of itself: NOT_FOUND (another model's name), INVALID_ARGUMENT.
  absl::Status CheckAddress(absl::string_view model, absl::string_view request_id,
                            absl::string_view tenant) const;
  // Prefixes in the cache are shared within a tenant only.
  uint64_t CacheSalt(const std::string& tenant) const;

  // Text to ids, as a text prompt would be read.
  absl::StatusOr<std::vector<int32_t>> Tokenize(absl::string_view model, const std::string& text,
                                                const Tokenizer::EncodeOptions& options) const;
  absl::StatusOr<std::string> Detokenize(absl::string_view model, absl::Span<const int32_t> ids,
                                         bool show_special) const;

  Engine& engine() const { return *engine_; }
  Metrics& metrics() const { return *metrics_; }
  const Tokenizer& tokenizer() const { return engine_->tokenizer(); }
  const std::string& name() const { return name_; }
  const SentencePrompts& prompts() const { return prompts_; }
  // The most tokens that ValidateRequest lets a prompt have.
  int32_t max_prompt_tokens() const { return max_prompt_tokens_; }
  // "generate", "tokenize", "chat", "embed", "score": those that it has.
  std::vector<absl::string_view> capabilities() const;

  // Whether requests had better go to another replica for a while: see OverloadWatch. For whoever
  // tells of the server's health, every second; the metrics show it too.
  bool IsOverloaded() const;

  // A call that will ask more of the engine, as long as the result lives.
  std::shared_ptr<void> BeginCall() const;
  // Whether the engine has ended everything, and no call will ask more of it, within `timeout`. For
  // an engine that drains.
  bool WaitUntilIdle(absl::Duration timeout) const;

  // Why conversations cannot be served; OK: they can.
  absl::Status chat_status() const { return prompt_encoder_.chat_status(); }

 private:
  absl::Status CheckName(absl::string_view model) const;
  absl::Status CheckGenerates() const;

  Engine* engine_;
  Metrics* metrics_;
  std::string name_;
  SentencePrompts prompts_;
  uint64_t default_seed_;
  int32_t max_prompt_tokens_;
  PromptEncoder prompt_encoder_;
  SipKey tenant_key_ = RandomSipKey();
  mutable absl::Mutex mutex_;
  mutable OverloadWatch overload_watch_ ABSL_GUARDED_BY(mutex_);
  mutable int64_t open_calls_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_SERVED_MODEL_H_
