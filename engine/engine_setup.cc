#include "engine/engine_setup.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/backend_choice.h"
#include "engine/expert_setup.h"
#include "engine/model/read_me_overlay.h"
#include "engine/quantization.h"
#include "engine/rank_setup.h"

namespace pregate {
namespace {

constexpr int32_t kBlockTokens = 16;
constexpr int32_t kDefaultMaxModelLen = 8192;
constexpr int32_t kMaxLogitRows = 256;
constexpr int32_t kMaxDraftTokens = 64;

absl::Status Refuse(absl::string_view flag, absl::string_view rule, int64_t got) {
  return absl::InvalidArgumentError(absl::StrCat(flag, ": must be ", rule, "; got ", got));
}

absl::StatusOr<DType> ParseKvDtype(const std::string& name) {
  if (name == "auto" || name == "f16") return DType::kF16;
  if (name == "bf16") return DType::kBF16;
  if (name == "q8_0") return DType::kQ8_0;
  if (name == "fp8" || name == "fp8_e4m3") return DType::kF8E4M3;
  if (name == "f32") return DType::kF32;
  return absl::InvalidArgumentError(absl::StrCat(
      "kv-cache-dtype: must be auto, f16, bf16, fp8, fp8_e4m3, q8_0 or f32; got ", name));
}

absl::StatusOr<ExpertStorage> ParseExpertStorage(const std::string& name) {
  if (name == "auto") return ExpertStorage::kAuto;
  if (name == "tied") return ExpertStorage::kTied;
  if (name == "copies") return ExpertStorage::kCopies;
  return absl::InvalidArgumentError(
      absl::StrCat("expert-storage: must be auto, tied or copies; got ", name));
}

// As many blocks as memory allows, but not more than all sequences at full length could use.
absl::StatusOr<int32_t> CountKvBlocks(const EngineOptions& options, const Backend& backend,
                                      const ModelConfig& config, DType dtype,
                                      int32_t max_model_len) {
  const int64_t memory = options.kv_cache_memory > 0
                             ? options.kv_cache_memory
                             : DefaultKvCacheMemory(backend, options.tensor_parallel_size);
  const int64_t block_bytes = KvStorage::BlockBytes(config, dtype, kBlockTokens);
  const int64_t useful =
      static_cast<int64_t>(options.max_num_seqs) * (max_model_len / kBlockTokens + 1);
  const int64_t blocks = std::min(memory / block_bytes, useful);
  if (blocks < 2) return Refuse("kv-cache-memory", absl::StrCat(">= ", 2 * block_bytes), memory);
  return static_cast<int32_t>(
      std::min<int64_t>(blocks, std::numeric_limits<int32_t>::max() / kBlockTokens));
}

ModelInfo DescribeServed(const EngineSetup& setup) {
  const ModelConfig& config = setup.file->config();
  ModelInfo info = setup.info;  // has the device
  info.name = config.name;
  info.architecture = config.architecture;
  info.format = std::string(setup.file->format());
  info.num_parameters = setup.transformer->num_parameters();
  info.weight_bytes = setup.transformer->weight_bytes();
  info.rank_weight_bytes = setup.transformer->rank_weight_bytes();
  info.context_length = config.context_length;
  info.max_model_len = setup.scheduler_config.max_model_len;
  info.vocab_size = setup.tokenizer->vocab_size();
  info.kv_blocks = setup.kv->num_blocks();
  info.max_prompt_tokens = std::min<int64_t>(
      static_cast<int64_t>(info.kv_blocks) * kBlockTokens - 1, std::max(1, info.max_model_len - 2));
  info.embedding_size = config.hidden_size;
  info.pooling = Pooling::kLast;
  info.block_tokens = kBlockTokens;
  info.chat_template = setup.file->chat_template();
  return info;
}

}  // namespace

absl::Status ValidateOptions(const EngineOptions& options, const ModelConfig& config) {
  if (options.max_model_len < 0 || options.max_model_len > config.context_length) {
    return Refuse("max-model-len", absl::StrCat("in [1, ", config.context_length, "]"),
                  options.max_model_len);
  }
  if (options.max_num_seqs < 1 || options.max_num_seqs > 4096) {
    return Refuse("max-num-seqs", "in [1, 4096]", options.max_num_seqs);
  }
  if (options.max_num_batched_tokens < options.max_num_seqs ||
      options.max_num_batched_tokens > 65536) {
    return Refuse("max-num-batched-tokens",
                  absl::StrCat("in [max-num-seqs (", options.max_num_seqs, "), 65536]"),
                  options.max_num_batched_tokens);
  }
  if (options.max_num_prefill_tokens < 1) {
    return Refuse("max-num-prefill-tokens", ">= 1", options.max_num_prefill_tokens);
  }
  if (options.draft_tokens < 0 || options.draft_tokens > kMaxDraftTokens) {
    return Refuse("draft-tokens", absl::StrCat("in [0, ", kMaxDraftTokens, "]"),
                  options.draft_tokens);
  }
  if (options.router_lookahead_tokens < -1 ||
      options.router_lookahead_tokens > kMaxRouterLookahead) {
    return Refuse("router-lookahead-tokens", absl::StrCat("in [0, ", kMaxRouterLookahead, "]"),
                  options.router_lookahead_tokens);
  }
  if (options.max_num_queued_reqs < 1) {
    return Refuse("max-num-queued-reqs", ">= 1", options.max_num_queued_reqs);
  }
  if (options.kv_cache_memory < 0) {
    return Refuse("kv-cache-memory", ">= 0", options.kv_cache_memory);
  }
  if (options.device != "auto" && options.device != "cpu" && options.device != "cuda") {
    return absl::InvalidArgumentError(
        absl::StrCat("device: must be auto, cpu or cuda; got ", options.device));
  }
  if (options.dtype != "auto" && options.dtype != "int8" && options.dtype != "float32") {
    return absl::InvalidArgumentError(
        absl::StrCat("dtype: must be auto, int8 or float32; got ", options.dtype));
  }
  return ValidateRanks(options);
}

absl::StatusOr<SchedulingPolicy> ParsePolicy(const std::string& name) {
  if (name == "fcfs") return SchedulingPolicy::kFcfs;
  if (name == "priority") return SchedulingPolicy::kPriority;
  return absl::InvalidArgumentError(
      absl::StrCat("scheduling-policy: must be fcfs or priority; got ", name));
}

absl::StatusOr<EngineSetup> SetUpEngine(std::unique_ptr<ModelFile> file,
                                        const EngineOptions& options,
                                        const std::function<void(double)>& progress) {
  const ModelConfig& config = file->config();
  if (config.encoder.present) return absl::UnimplementedError("model: does not generate");
  if (absl::Status status = ValidateOptions(options, config); !status.ok()) return status;
  const absl::StatusOr<DType> kv_dtype = ParseKvDtype(options.kv_cache_dtype);
  if (!kv_dtype.ok()) return kv_dtype.status();
  const absl::StatusOr<std::optional<DType>> quantization = ParseQuantization(options.quantization);
  if (!quantization.ok()) return quantization.status();
  const absl::StatusOr<SchedulingPolicy> policy = ParsePolicy(options.scheduling_policy);
  if (!policy.ok()) return policy.status();
  const absl::StatusOr<ExpertStorage> expert_storage = ParseExpertStorage(options.expert_storage);
  if (!expert_storage.ok()) return expert_storage.status();
  absl::StatusOr<std::vector<std::unique_ptr<ModelShare>>> shares = DealOut(*file, options);
  if (!shares.ok()) return shares.status();
  const ModelFile& own = shares->empty() ? *file : *shares->front();  // what this device has of it
  absl::StatusOr<ChosenBackend> chosen = ChooseBackend(own, options);
  if (!chosen.ok()) return chosen.status();
  Backend& backend = chosen->backend;

  EngineSetup setup;
  setup.ends = std::move(chosen->ends);
  setup.device = std::move(backend.device);
  setup.info.device = backend.description;
  setup.info.device_choice = chosen->why;
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Create(file->tokenizer());
  if (!tokenizer.ok()) return tokenizer.status();
  setup.tokenizer = *std::move(tokenizer);
  // Rows beyond the tokenizer's are padding; a token without a row could not be computed.
  if (setup.tokenizer->vocab_size() > config.vocab_size) {
    return absl::FailedPreconditionError(
        absl::StrCat("tokenizer: must have at most as many tokens as the embedding has rows (",
                     config.vocab_size, "); got ", setup.tokenizer->vocab_size()));
  }
  if (progress) progress(0.1);

  Transformer::Options transformer_options;
  transformer_options.max_rows = options.max_num_batched_tokens;
  transformer_options.max_logits = std::max(kMaxLogitRows, options.max_num_seqs);
  transformer_options.activations = options.dtype == "float32" ? DType::kF32
                                    : options.dtype == "int8"  ? DType::kQ8Act
                                                               : DType::kQ16Act;
  transformer_options.quantization = *quantization;
  transformer_options.expert_storage = *expert_storage;
  transformer_options.expert_memory = {options.expert_cache_memory, options.expert_cache_dir,
                                       options.expert_host_memory};
  if (progress) transformer_options.progress = [&](double share) { progress(0.1 + 0.8 * share); };
  absl::StatusOr<std::unique_ptr<Transformer>> transformer =
      MakeTransformer(*file, *std::move(shares), options, setup.ends, setup.device.get(),
                      backend.kernels, transformer_options);
  if (!transformer.ok()) return transformer.status();
  setup.transformer = *std::move(transformer);
  if (config.read_me.num_experts > 0) {
    absl::StatusOr<std::unique_ptr<ExpertRouter>> router =
        ExpertRouter::Create(own, setup.device.get(), backend.kernels,
                             setup.transformer->embedding(), options.max_num_batched_tokens);
    if (!router.ok()) return router.status();
    setup.router = *std::move(router);
  }

  const int32_t max_model_len = options.max_model_len > 0
                                    ? options.max_model_len
                                    : std::min(config.context_length, kDefaultMaxModelLen);
  const absl::StatusOr<int32_t> num_blocks =
      CountKvBlocks(options, backend, own.config(), *kv_dtype, max_model_len);
  if (!num_blocks.ok()) return num_blocks.status();
  absl::StatusOr<std::unique_ptr<KvStorage>> kv =
      setup.transformer->MakeKv(*kv_dtype, kBlockTokens, *num_blocks);
  if (!kv.ok()) return kv.status();
  setup.kv = *std::move(kv);
  setup.sampler = std::make_unique<Sampler>(setup.device.get(), backend.kernels,
                                            setup.tokenizer->vocab_size(), options.max_num_seqs);

  setup.max_queued_requests = options.max_num_queued_reqs;
  const int64_t pool_tokens = static_cast<int64_t>(*num_blocks) * kBlockTokens;
  setup.max_queued_tokens =
      options.max_num_queued_tokens > 0 ? options.max_num_queued_tokens : 4 * pool_tokens;

  SchedulerConfig& scheduler = setup.scheduler_config;
  scheduler.max_num_seqs = options.max_num_seqs;
  scheduler.max_num_batched_tokens = options.max_num_batched_tokens;
  scheduler.max_num_prefill_tokens = options.max_num_prefill_tokens;
  scheduler.max_logits = transformer_options.max_logits;
  scheduler.max_draft_tokens = options.draft_tokens;
  scheduler.router_lookahead_tokens = options.router_lookahead_tokens;
  scheduler.max_model_len = max_model_len;
  scheduler.num_blocks = *num_blocks;
  scheduler.block_tokens = kBlockTokens;
  scheduler.enable_prefix_caching = options.enable_prefix_caching;
  scheduler.policy = *policy;
  scheduler.max_num_step_seqs = options.max_num_step_seqs;
  absl::StatusOr<ExpertConfig> experts = MakeExpertConfig(options, config, *setup.transformer);
  if (!experts.ok()) return experts.status();
  scheduler.experts = *std::move(experts);
  // Submit keeps the bounds. Sequences that wait again after a preemption must never be what makes
  // an accepted request bounce.
  constexpr int64_t kMaxTokens = std::numeric_limits<int64_t>::max();
  scheduler.max_num_queued_reqs = static_cast<int32_t>(
      std::min<int64_t>(int64_t{options.max_num_queued_reqs} + options.max_num_seqs,
                        std::numeric_limits<int32_t>::max()));
  scheduler.max_num_queued_tokens =
      std::min(setup.max_queued_tokens, kMaxTokens - pool_tokens) + pool_tokens;

  if (!options.record_trace.empty()) {
    absl::StatusOr<std::unique_ptr<TraceFile>> trace = TraceFile::Create(options.record_trace);
    if (!trace.ok()) return trace.status();
    setup.trace = *std::move(trace);
  }
  setup.file = std::move(file);
  setup.info = DescribeServed(setup);
  if (progress) progress(1.0);
  return setup;
}

absl::StatusOr<std::unique_ptr<ModelFile>> OpenServedModel(const std::string& model_path,
                                                           const EngineOptions& options) {
  absl::StatusOr<std::unique_ptr<ModelFile>> file = ModelFile::Open(model_path);
  if (file.ok() && !options.read_me.empty()) {
    file = LayReadMeOver(*std::move(file), options.read_me);
  }
  return file;
}

absl::StatusOr<EngineSetup> SetUpEngine(const std::string& model_path, const EngineOptions& options,
                                        const std::function<void(double)>& progress) {
  absl::StatusOr<std::unique_ptr<ModelFile>> file = OpenServedModel(model_path, options);
  if (!file.ok()) return file.status();
  return SetUpEngine(*std::move(file), options, progress);
}

}  // namespace pregate
