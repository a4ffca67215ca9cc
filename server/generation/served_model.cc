#include "server/generation/served_model.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace pregate {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

// The bounds of ValidateRequest: the context, less room to answer, and the KV pool.
int32_t MaxPromptTokens(const ModelInfo& model) {
  if (!model.generates) return static_cast<int32_t>(model.max_prompt_tokens);
  return static_cast<int32_t>(std::min<int64_t>(model.max_model_len - 2, model.max_prompt_tokens));
}

// Seeds of the answers to one request, far apart and different for every index (SplitMix64's
// increment and mixer, Steele et al. 2014). Answer 0 has the request's own.
uint64_t SeedOfAnswer(uint64_t seed, int32_t index) {
  if (index == 0) return seed;
  uint64_t mixed = seed + static_cast<uint64_t>(index) * 0x9e3779b97f4a7c15;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31);
}

// What the engine's narrower types could not carry; everything else is ValidateRequest's.
absl::Status CheckRepresentable(const ClientRequest& request) {
  if (request.n < 1 || request.n > kMaxAnswers) {
    return FieldError("n", absl::StrCat("be in [1, ", kMaxAnswers, "]"), request.n);
  }
  for (const auto& [field, value] :
       {std::pair("max_tokens", request.max_tokens), std::pair("min_tokens", request.min_tokens)}) {
    if (value < 0 || value > kMaxInt32) {
      return FieldError(field, absl::StrCat("be in [0, ", kMaxInt32, "]"), value);
    }
  }
  // The engine's -1 is its "none": a client says so by leaving the field out.
  for (const auto& [field, value] : {std::pair("logprobs", request.logprobs),
                                     std::pair("prompt_logprobs", request.prompt_logprobs)}) {
    if (value.value_or(0) < 0) return FieldError(field, "be >= 0", *value);
  }
  return absl::OkStatus();
}

}  // namespace

ServedModel::ServedModel(Engine* engine, Metrics* metrics, const ServedModelOptions& options)
    : engine_(engine),
      metrics_(metrics),
      name_(options.name),
      prompts_(options.prompts),
      default_seed_(options.default_seed),
      max_prompt_tokens_(MaxPromptTokens(engine->model())),
      prompt_encoder_(
          &engine->tokenizer(),
          options.chat_template.empty() ? engine->model().chat_template : options.chat_template,
          max_prompt_tokens_),
      overload_watch_(options.overload_patience) {}

absl::StatusOr<GenerationRequest> ServedModel::Translate(ClientRequest request) const {
  for (const absl::Status& status :
       {CheckAddress(request.model, request.request_id, request.tenant), CheckGenerates(),
        CheckRepresentable(request)}) {
    if (!status.ok()) return status;
  }
  GenerationRequest wanted;
  wanted.max_tokens = static_cast<int32_t>(request.max_tokens);
  wanted.min_tokens = static_cast<int32_t>(request.min_tokens);
  wanted.stop_ids = std::move(request.stop_ids);
  wanted.ignore_eos = request.ignore_eos;
  wanted.priority = request.priority;
  wanted.cache_salt = CacheSalt(request.tenant);
  wanted.prompt_logprobs = request.prompt_logprobs.value_or(-1);
  wanted.deadline = request.deadline;

  SamplingParams sampling = std::move(request.sampling);
  sampling.logprobs = request.logprobs.value_or(-1);
  wanted.sampling.assign(request.n, sampling);
  for (int32_t i = 0; i < request.n; ++i) {
    wanted.sampling[i].seed = SeedOfAnswer(request.seed.value_or(default_seed_), i);
  }
  absl::StatusOr<std::vector<int32_t>> prompt = prompt_encoder_.Encode(std::move(request));
  if (!prompt.ok()) return prompt.status();
  wanted.prompt = *std::move(prompt);
  return wanted;
}

absl::Status ServedModel::CheckAddress(absl::string_view model, absl::string_view request_id,
                                       absl::string_view tenant) const {
  for (const absl::Status& status :
       {CheckName(model), CheckText("request_id", request_id, kMaxLabelBytes),
        CheckText("tenant", tenant, kMaxLabelBytes)}) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

std::vector<absl::string_view> ServedModel::capabilities() const {
  const ModelInfo& info = engine_->model();
  std::vector<absl::string_view> capabilities;
  if (info.generates) capabilities.push_back("generate");
  capabilities.push_back("tokenize");
  if (info.generates && chat_status().ok()) capabilities.push_back("chat");
  if (info.embedding_size > 0) capabilities.push_back("embed");
  if (info.scores || info.embedding_size > 0) capabilities.push_back("score");
  return capabilities;
}

absl::Status ServedModel::CheckGenerates() const {
  if (engine_->model().generates) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("model: must generate text; got ", Quoted(name_), ", which reads texts only"));
}

absl::StatusOr<std::vector<int32_t>> ServedModel::Tokenize(
    absl::string_view model, const std::string& text,
    const Tokenizer::EncodeOptions& options) const {
  if (absl::Status status = CheckName(model); !status.ok()) return status;
  if (absl::Status status = CheckText("text", text, kMaxTokenizeBytes); !status.ok()) return status;
  return tokenizer().Encode(text, options);
}

absl::StatusOr<std::string> ServedModel::Detokenize(absl::string_view model,
                                                    absl::Span<const int32_t> ids,
                                                    bool show_special) const {
  if (absl::Status status = CheckName(model); !status.ok()) return status;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= tokenizer().vocab_size()) {
      return FieldError(absl::StrCat("ids[", i, "]"),
                        absl::StrCat("be in [0, ", tokenizer().vocab_size(), ")"), ids[i]);
    }
  }
  return tokenizer().Decode(ids, show_special);
}

absl::Status ServedModel::CheckName(absl::string_view model) const {
  if (model.empty() || model == name_) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("model: must be one that ListModels names, or empty; got ", Quoted(model)));
}

uint64_t ServedModel::CacheSalt(const std::string& tenant) const {
  if (tenant.empty()) return 0;
  return std::max<uint64_t>(SipHash(tenant_key_, tenant), 1);
}

bool ServedModel::IsOverloaded() const {
  const int64_t refused = metrics_->rejections(Rejection::kQueueFull);
  const int32_t waiting = engine_->stats().waiting;
  absl::MutexLock lock(&mutex_);
  const bool overloaded = overload_watch_.Overloaded(refused, waiting, absl::Now());
  metrics_->SetOverloaded(overloaded);
  return overloaded;
}

std::shared_ptr<void> ServedModel::BeginCall() const {
  absl::MutexLock lock(&mutex_);
  ++open_calls_;
  return std::shared_ptr<void>(nullptr, [this](void*) {
    absl::MutexLock ending(&mutex_);
    --open_calls_;
  });
}

bool ServedModel::WaitUntilIdle(absl::Duration timeout) const {
  const absl::Time deadline = absl::Now() + timeout;
  {
    absl::MutexLock lock(&mutex_);
    auto none = +[](int64_t* calls) { return *calls == 0; };
    if (!mutex_.AwaitWithDeadline(absl::Condition(none, &open_calls_), deadline)) return false;
  }
  return engine_->WaitUntilIdle(deadline - absl::Now());
}

}  // namespace pregate
