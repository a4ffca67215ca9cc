// Engine: the step loop and its thread. Front ends submit token ids and get token ids back.
#ifndef PREGATE_ENGINE_ENGINE_H_
#define PREGATE_ENGINE_ENGINE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/model/pooling.h"
#include "engine/model/sampling_params.h"
#include "engine/plan/request.h"
#include "engine/tokenizer.h"

namespace pregate {

// Every option is a flag of `pregate serve` of the same name.
struct EngineOptions {
  int32_t max_model_len = 0;  // 0: the model's context, at most 8192
  int32_t max_num_seqs = 64;
  int32_t max_num_batched_tokens = 512;
  int32_t max_num_prefill_tokens = 32;
  // Tokens guessed ahead of an answer from its own text so far, computed in the same step as its
  // newest and kept as far as they are what it samples; 0: none.
  int32_t draft_tokens = 0;
  int32_t max_num_queued_reqs = 1024;
  int64_t max_num_queued_tokens = 0;    // 0: four times the KV pool
  int64_t kv_cache_memory = 0;          // bytes; 0: see DefaultKvCacheMemory
  std::string kv_cache_dtype = "auto";  // auto (f16), f16, bf16, fp8, fp8_e4m3, q8_0, f32
  bool enable_prefix_caching = true;
  std::string scheduling_policy = "fcfs";  // fcfs, priority
  std::string device = "auto";             // auto, cpu, cuda: see ChooseBackend
  int threads = 0;                         // 0: all usable CPUs
  // Ranks that run the model together, each with its part of it: GPUs, or groups of threads that
  // share `threads`. kv_cache_memory is of each. With enable_expert_parallel a rank has some of a
  // mixture's experts whole instead of a part of each.
  int32_t tensor_parallel_size = 1;
  bool enable_expert_parallel = false;
  // Activations. auto: 16 bits; int8: 8 bits, faster and less exact; float32: not quantised.
  std::string dtype = "auto";
  // Matrices of floats are quantised when they are loaded: none (they are not), q8_0, q5_1, q5_0,
  // q4_1, q4_0. Gates and a router stay as they are, and so does a file that is of the type
  // already; one that is quantised otherwise is refused.
  std::string quantization = "none";
  // A folder with a router and masks to lay over a dense model; "": none. How experts that overlap
  // are kept: auto (tied if any do), tied, copies.
  std::string read_me;
  std::string expert_storage = "auto";
  // How steps are put together where a router names experts ahead. auto: by the model of cost where
  // it expects a gain; off: in order; on: always by cost; the others are baselines: paper
  // (Read-ME's Algorithm 1), decode-first, prefill-first.
  std::string expert_batching = "auto";
  int32_t expert_batch_max_wait_steps = 64;  // that a sequence may be passed over
  // Tokens of a queued prompt whose experts are known ahead of its steps, and of all prompts that
  // are taken up for it; -1: max_num_batched_tokens, 0: what the next step may run.
  int32_t router_lookahead_tokens = -1;
  int32_t max_num_step_seqs = 0;  // sequences with rows in one step; 0: max_num_seqs
  // Bytes of expert weights in the device's memory; 0: all. The others wait in a file in
  // `expert_cache_dir`, and `expert_eviction` says what makes room: planned (what the queues need
  // last), lru, lfu, random. A device with memory of its own has the host's before the file:
  // `expert_host_memory` bytes of it, 0: enough for all, and no file.
  int64_t expert_cache_memory = 0;
  int64_t expert_host_memory = 0;
  std::string expert_cache_dir = "/var/tmp";
  std::string expert_eviction = "planned";
  bool expert_prefetch = true;  // load for later steps while nothing else is loaded
  uint64_t seed = 0;
  // A file for what is asked, when, and which experts every token takes (plan/workload.h), or "".
  // Token ids are renamed: it does not hold what was said.
  std::string record_trace;
};

// One question: a prompt and `sampling.size()` answers to it.
struct GenerationRequest {
  std::vector<int32_t> prompt;
  std::vector<SamplingParams> sampling;  // one for each answer (n), seeds already apart
  int32_t max_tokens = 256;  // 0, with prompt_logprobs: the prompt is scored, nothing sampled
  int32_t min_tokens = 0;
  std::vector<int32_t> stop_ids;  // in addition to the model's own
  bool ignore_eos = false;
  int32_t priority = 0;
  uint64_t cache_salt = 0;
  // As SamplingParams::logprobs, for the tokens of the prompt, with the ids that answer 0 names.
  // Given out with its first token, or with its end if it has none.
  int32_t prompt_logprobs = -1;
  absl::Time deadline = absl::InfiniteFuture();
};

// Where the milliseconds of one answer went.
struct RequestTiming {
  absl::Duration queue;                // submission to first step
  absl::Duration prefill;              // first step to first token, or to the prompt's end
  absl::Duration time_to_first_token;  // submission to first token
  absl::Duration decode;               // first token to last
  // With a pre-gating router, and contained in the above: choosing experts for steps' rows in which
  // this answer had some, waiting for expert weights in steps that computed some of its rows, and
  // how many experts those rows met.
  absl::Duration pregate;
  absl::Duration expert_stall;
  int32_t distinct_experts = 0;
};

// A piece of one answer.
struct GenerationOutput {
  int32_t index = 0;                       // which answer
  std::vector<int32_t> token_ids;          // the delta; empty in a finish that samples nothing
  std::vector<PositionLogprobs> logprobs;  // one for each token, where asked for
  std::vector<PositionLogprobs> prompt_logprobs;  // once, see GenerationRequest
  FinishReason finish = FinishReason::kNone;
  std::string detail;  // of kDeadline and kError: "expired in queue after 812 ms"

  // Set with `finish`.
  int32_t prompt_tokens = 0;
  int32_t cached_prompt_tokens = 0;
  int32_t completion_tokens = 0;
  RequestTiming timing;
};

// Called on the engine's thread, in order; must not block or call the engine, except Cancel. The
// last call for each answer carries `finish`; after all answers have finished it is destroyed.
using OutputCallback = std::function<void(GenerationOutput)>;

// One text to be read whole: for its vector or, by a cross-encoder, for its score.
struct EncodingRequest {
  std::vector<int32_t> ids;  // special tokens included
  // Ids from here on belong to the second text of a pair; 0: there is one text.
  int32_t second_begin = 0;
  Pooling pooling = Pooling::kNone;
  int32_t priority = 0;
  uint64_t cache_salt = 0;
  absl::Time deadline = absl::InfiniteFuture();
  // Of a call whose first texts were accepted: a draining engine takes the others, too.
  bool continues = false;
};

struct EncodingOutput {
  // DEADLINE_EXCEEDED, CANCELLED, INTERNAL: how it may end without values.
  absl::Status status;
  // [embedding_size] as the model gives it, neither normalised nor cut; or [1], the score.
  std::vector<float> values;
  absl::Duration queue;    // submission to first step
  absl::Duration compute;  // first step to last
};

// Called once, on the engine's thread; must not block or call the engine, except Cancel.
using EncodingCallback = std::function<void(EncodingOutput)>;

// One step, for metrics.
struct StepStats {
  absl::Duration pregate, plan, execute, sample, commit;
  int32_t rows = 0;
  int32_t sequences = 0;
  int32_t prompt_tokens = 0;     // prompt rows of the step
  int32_t generated_tokens = 0;  // tokens sampled in it
  // With a pre-gating router: rows by expert, and what the device waited for expert weights.
  std::vector<int32_t> expert_rows;  // [experts]
  absl::Duration expert_stall;
  absl::Duration expert_stall_copying;  // of it, while some were on their way from memory or disk
  const char* expert_batching = "";  // whether steps are put together by expert, and why: a literal
};

// What is kept of a pre-gating router's experts, and what became of it. Counters count from the
// start.
struct ExpertCounters {
  static constexpr int32_t kCauses = 3;      // known, guessed, demand
  static constexpr int32_t kLookaheads = 8;  // 0 to 6 steps, more
  static constexpr int32_t kShadows = 5;     // random, lru, lfu, static, belady_offline

  int32_t experts = 0;  // 0: the model has no pre-gating router
  // Units of weights that steps needed: in memory, on their way, neither.
  int64_t hits = 0, late = 0, misses = 0;
  std::array<int64_t, kCauses> loads = {}, load_bytes = {};
  std::array<int64_t, kCauses> wasted_bytes = {};   // evicted unused
  std::array<int64_t, kLookaheads> lookahead = {};  // loads, by steps before the first use
  int64_t lookahead_steps = 0;                      // of all loads together
  bool all_resident = true;  // then nothing is loaded, and the ratios below mean nothing
  // What other ways to choose what gives way would have hit on the same accesses, 0 to 1.
  std::array<double, kShadows> shadow_hit_ratio = {};
  double floor_hit_ratio = 0.0;  // the share of the weights that fits
};

// A moment's picture of the engine. Counters count from the start.
struct EngineStats {
  int32_t waiting = 0;
  int32_t running = 0;
  double kv_cache_usage = 0.0;  // 0 to 1: blocks held by sequences
  int32_t kv_blocks = 0;
  int32_t block_tokens = 0;
  int64_t preemptions = 0;
  int64_t prefix_queries = 0;
  int64_t prefix_hits = 0;
  // Answers that a step guessed ahead of, tokens guessed, and those that were right.
  int64_t drafts = 0;
  int64_t draft_tokens = 0;
  int64_t accepted_tokens = 0;
  int64_t steps = 0;
  absl::Time last_step;  // end of the newest step, or the start
  bool draining = false;
  ExpertCounters experts;
};

// What is served, for ListModels, validation and metrics.
struct ModelInfo {
  std::string name;  // from the file, may be empty
  std::string architecture;
  std::string format;
  int64_t num_parameters = 0;
  int64_t weight_bytes = 0;
  std::vector<int64_t> rank_weight_bytes;  // of each rank; more than one: tensor_parallel_size
  int32_t context_length = 0;              // of the file
  int32_t max_model_len = 0;               // in force
  int32_t vocab_size = 0;                  // width of the logits
  int64_t max_prompt_tokens = 0;           // of a prompt, or of a text to be read
  int32_t kv_blocks = 0;
  int32_t block_tokens = 0;
  std::string device;         // "cpu (avx512vnni, 2 threads)"
  std::string device_choice;  // why this one, where the option left it open; else empty
  std::string chat_template;

  bool generates = true;             // Submit can be called
  int32_t embedding_size = 0;        // width of a vector; 0: Encode gives none
  Pooling pooling = Pooling::kNone;  // of kNone requests
  bool scores = false;               // Encode gives the score of a pair instead
};

class Engine {
 public:
  // Opens the model, sizes the KV pool and starts the engine thread. `progress` is called with
  // [0, 1] while weights load; may be null.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      const std::string& model_path, const EngineOptions& options,
      const std::function<void(double)>& progress = nullptr);
  // Ends what runs with kCancelled, then joins the thread.
  virtual ~Engine() = default;

  virtual const ModelInfo& model() const = 0;
  virtual const Tokenizer& tokenizer() const = 0;

  // Queues a request and returns at once; thread-safe. The id names it in Cancel.
  // INVALID_ARGUMENT (ValidateRequest), RESOURCE_EXHAUSTED (queue full), UNAVAILABLE (draining).
  virtual absl::StatusOr<uint64_t> Submit(GenerationRequest request, OutputCallback callback) = 0;

  // Queues a text to be read, of the same queue and with the same errors as Submit; UNIMPLEMENTED
  // when the model gives neither vectors nor scores.
  virtual absl::StatusOr<uint64_t> Encode(EncodingRequest request, EncodingCallback callback) = 0;

  // Ends a request with kCancelled, at the next step at the latest; thread-safe, idempotent;
  // unknown ids are ignored.
  virtual void Cancel(uint64_t request_id) = 0;
  // The same for one of its answers; the others go on.
  virtual void CancelAnswer(uint64_t request_id, int32_t index) = 0;

  // Refuses new requests from now on.
  virtual void StartDrain() = 0;
  // Waits until nothing is queued or running; false when `timeout` passed first.
  virtual bool WaitUntilIdle(absl::Duration timeout) = 0;

  virtual EngineStats stats() const = 0;
  // Called after each step on the engine's thread; must not block. Set once, before Submit.
  virtual void SetStepObserver(std::function<void(const StepStats&)> observer) = 0;
};

// The one check below every front end: INVALID_ARGUMENT "<field>: <rule>; got <value>".
absl::Status ValidateRequest(const GenerationRequest& request, const ModelInfo& model);
absl::Status ValidateRequest(const EncodingRequest& request, const ModelInfo& model);

// What the log-probabilities of one prompt may weigh, and what they do: pairs of 8 bytes, at each
// of its `tokens` positions those of its token, of the `top` likeliest and of `listed` ids asked
// for.
inline constexpr int64_t kMaxPromptLogprobBytes = 16 << 20;
int64_t PromptLogprobBytes(int64_t tokens, int64_t top, int64_t listed);

}  // namespace pregate

#endif  // PREGATE_ENGINE_ENGINE_H_
