#include "server/config/flag_lists.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>

#include "absl/strings/string_view.h"

namespace pregate {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();
constexpr int kMaxPort = 65535;

Flag ModelFlag(std::string* target) {
  return TextFlag(kModelFlag, "MODEL", "a GGUF file or a Hugging Face folder", target);
}

Flag MaxModelLen(EngineOptions* engine) {
  return IntegerFlag("max-model-len", "context length in tokens", &engine->max_model_len, 1,
                     kMaxInt32, "the model's, at most 8192");
}

// What the engine computes with.
void AppendComputeFlags(EngineOptions* engine, std::vector<Flag>* flags) {
  flags->push_back(WordFlag("device", "auto|cpu|cuda",
                            "auto: a GPU with room for the model, else the CPU", &engine->device));
  flags->push_back(
      IntegerFlag("threads", "CPU threads", &engine->threads, 1, 4096, "all usable CPUs"));
  flags->push_back(IntegerFlag("tensor-parallel-size",
                               "GPUs, or groups of threads, that share the model",
                               &engine->tensor_parallel_size, 1, 64));
  flags->push_back(SwitchFlag("enable-expert-parallel", "share a mixture by whole experts",
                              &engine->enable_expert_parallel));
  flags->push_back(WordFlag("dtype", "auto|int8|float32",
                            "number format of activations; int8: fast, less exact",
                            &engine->dtype));
  flags->push_back(WordFlag("quantization", "none|q8_0|q5_1|q5_0|q4_1|q4_0",
                            "of weights that are floats in the file", &engine->quantization));
  flags->push_back(WordFlag("kv-cache-dtype", "auto|f16|bf16|fp8|fp8_e4m3|q8_0|f32",
                            "number format of the KV cache", &engine->kv_cache_dtype));
  flags->push_back(TextFlag("read-me", "FOLDER",
                            "router and expert masks to lay over a dense model", &engine->read_me));
  flags->push_back(WordFlag("expert-storage", "auto|tied|copies",
                            "experts that overlap; tied: what they share once",
                            &engine->expert_storage));
}

// Where expert weights are that do not all fit in memory.
void AppendExpertMemoryFlags(EngineOptions* engine, std::vector<Flag>* flags) {
  flags->push_back(BytesFlag("expert-cache-memory", "memory of expert weights (Read-ME)",
                             &engine->expert_cache_memory, "all of them"));
  flags->push_back(BytesFlag("expert-host-memory", "on a GPU: host memory of expert weights",
                             &engine->expert_host_memory, "all of them"));
  flags->push_back(TextFlag("expert-cache-dir", "FOLDER", "for a file with those that do not fit",
                            &engine->expert_cache_dir));
  flags->push_back(WordFlag("expert-eviction", "planned|lru|lfu|random",
                            "which gives way; planned: by the queues", &engine->expert_eviction));
  flags->push_back(
      SwitchFlag("expert-prefetch", "load experts for later steps", &engine->expert_prefetch));
}

// How the engine shares itself among requests.
void AppendSchedulingFlags(EngineOptions* engine, std::vector<Flag>* flags) {
  flags->push_back(MaxModelLen(engine));
  flags->push_back(
      IntegerFlag("max-num-seqs", "sequences that run at once", &engine->max_num_seqs, 1, 4096));
  flags->push_back(IntegerFlag("max-num-batched-tokens", "tokens computed in one step",
                               &engine->max_num_batched_tokens, 1, 65536));
  flags->push_back(IntegerFlag("max-num-prefill-tokens", "of these, of prompts beside answers",
                               &engine->max_num_prefill_tokens, 1, 65536));
  flags->push_back(IntegerFlag("draft-tokens", "guessed ahead of an answer from its text; 0: none",
                               &engine->draft_tokens, 0, 64));
  flags->push_back(IntegerFlag("max-num-queued-reqs", "requests that may wait",
                               &engine->max_num_queued_reqs, 1, kMaxInt32));
  flags->push_back(IntegerFlag("max-num-queued-tokens", "prompt tokens that may wait",
                               &engine->max_num_queued_tokens, 1, kMaxInt64,
                               "four times the KV cache"));
  flags->push_back(BytesFlag("kv-cache-memory", "memory of the KV cache", &engine->kv_cache_memory,
                             "1/4 of usable memory, of a GPU 9/10"));
  flags->push_back(SwitchFlag("enable-prefix-caching", "share the KV cache of equal prefixes",
                              &engine->enable_prefix_caching));
  flags->push_back(
      WordFlag("scheduling-policy", "fcfs|priority", "who goes first", &engine->scheduling_policy));
  flags->push_back(WordFlag("expert-batching", "auto|off|on|paper|decode-first|prefill-first",
                            "steps by expert (Read-ME)", &engine->expert_batching));
  flags->push_back(IntegerFlag("expert-batch-max-wait-steps", "that an answer may be passed over",
                               &engine->expert_batch_max_wait_steps, 1, kMaxInt32));
  flags->push_back(IntegerFlag("router-lookahead-tokens", "of prompts routed ahead (Read-ME)",
                               &engine->router_lookahead_tokens, 0, kMaxRouterLookahead,
                               "max-num-batched-tokens"));
  flags->push_back(IntegerFlag("max-num-step-seqs", "sequences with tokens in one step (Read-ME)",
                               &engine->max_num_step_seqs, 1, 4096, "max-num-seqs"));
}

// How the server meets the outside world.
void AppendServerFlags(ServeConfig* config, std::vector<Flag>* flags) {
  flags->push_back(TextFlag("host", "ADDRESS", "address to listen on", &config->host));
  flags->push_back(
      IntegerFlag("port", "port of HTTP; 0: any free one", &config->http_port, 0, kMaxPort));
  flags->push_back(
      IntegerFlag("grpc-port", "port of gRPC; 0: any free one", &config->grpc_port, 0, kMaxPort));
  flags->push_back(IntegerFlag("metrics-port", "port of /metrics; 0: any free one",
                               &config->metrics_port, 0, kMaxPort));
  flags->push_back(TextFlag("metrics-host", "ADDRESS", "where that port is; it has no TLS",
                            &config->metrics_host));
  flags->back().default_value = std::string("host");
  flags->push_back(IntegerFlag("health-port", "port of /livez and /readyz alone, without TLS",
                               &config->health_port, 0, kMaxPort, "none"));
  flags->push_back(TextFlag("api-key-file", "FILE", "bearer tokens, one of which clients must send",
                            &config->api_key_file));
  flags->push_back(TextFlag("ssl-certfile", "FILE", "PEM certificate chain of the server: TLS",
                            &config->tls.certificate_chain));
  flags->push_back(
      TextFlag("ssl-keyfile", "FILE", "PEM key of the certificate", &config->tls.private_key));
  flags->push_back(TextFlag("ssl-ca-certs", "FILE",
                            "PEM authorities, one of which clients' certificates must be of",
                            &config->tls.client_ca));
  flags->push_back(EnumFlag("reflection", "auto|on|off", "gRPC reflection; auto: on loopback only",
                            static_cast<int>(config->reflection), [config](int word) {
                              config->reflection = static_cast<Reflection>(word);
                            }));
  flags->push_back(DurationFlag("grpc-max-connection-age",
                                "of a gRPC connection, then its client makes another",
                                &config->grpc_max_connection_age));
  flags->back().default_value = std::string("none");
  flags->push_back(DurationFlag("grpc-max-connection-age-grace",
                                "for calls on it to end, which are then cut",
                                &config->grpc_max_connection_age_grace));
  flags->back().default_value = std::string("none");
  flags->push_back(DurationFlag("overload-unready-after",
                                "of refusals by a full queue; then /readyz says no",
                                &config->overload_unready_after));
  flags->back().default_value = std::string("never");
  flags->push_back(EnumFlag("metrics-compat", "none|vllm", "metrics also under vLLM's names",
                            static_cast<int>(config->metrics_compat), [config](int word) {
                              config->metrics_compat = static_cast<MetricsCompat>(word);
                            }));
  flags->push_back(
      DurationFlag("shutdown-delay", "from SIGTERM to the first refusal", &config->shutdown_delay));
  flags->push_back(
      DurationFlag("drain-timeout", "for running requests to end, then", &config->drain_timeout));
  flags->push_back(EnumFlag("log-format", "text|json", "json: one line per request as JSON",
                            static_cast<int>(config->log_format), [config](int word) {
                              config->log_format = static_cast<LogFormat>(word);
                            }));
  flags->push_back(TextFlag("otlp-traces-endpoint", "URL",
                            "OTLP collector of traces, http://HOST[:4318][/v1/traces]",
                            &config->otlp_traces_endpoint));
  flags->push_back(RealFlag("trace-sample-ratio", "share of requests without a parent to trace",
                            &config->trace_sample_ratio, 0, 1));
}

Flag SystemFlag(std::string* target) {
  return TextFlag("system", "TEXT", "system message", target);
}

Flag ChatTemplate(std::string* target) {
  Flag flag = TextFlag("chat-template", "FILE", "Jinja chat template", target);
  flag.default_value = std::string("the model's own");
  return flag;
}

// The flags from `first` on are of this topic.
void SetTopic(const char* topic, size_t first, std::vector<Flag>* flags) {
  for (size_t i = first; i < flags->size(); ++i) (*flags)[i].topic = std::string(topic);
}

// What `serve --help` leaves to `--help-all`.
constexpr absl::string_view kRareServeFlags[] = {"query-prefix",
                                                 "passage-prefix",
                                                 "reflection",
                                                 "metrics-compat",
                                                 "shutdown-delay",
                                                 "drain-timeout",
                                                 "ssl-ca-certs",
                                                 "max-num-prefill-tokens",
                                                 "max-num-queued-tokens",
                                                 "scheduling-policy",
                                                 "expert-batching",
                                                 "expert-batch-max-wait-steps",
                                                 "router-lookahead-tokens",
                                                 "max-num-step-seqs",
                                                 "expert-storage",
                                                 "expert-cache-dir",
                                                 "expert-eviction",
                                                 "expert-prefetch",
                                                 "expert-host-memory",
                                                 "record-trace",
                                                 "health-port",
                                                 "otlp-traces-endpoint",
                                                 "trace-sample-ratio",
                                                 "enable-expert-parallel",
                                                 "grpc-max-connection-age",
                                                 "grpc-max-connection-age-grace",
                                                 "overload-unready-after"};

// How the numbers of an answer are chosen.
void AppendSamplingFlags(int32_t* max_tokens, double* temperature, int32_t* top_k, double* top_p,
                         uint64_t* seed, std::vector<Flag>* flags) {
  flags->push_back(IntegerFlag("max-tokens", "length of the answer", max_tokens, 1, kMaxInt32));
  flags->push_back(RealFlag("temperature", "0: the likeliest token", temperature, 0, 2));
  flags->push_back(
      IntegerFlag("top-k", "sample among the k likeliest", top_k, 0, kMaxInt32, "all"));
  flags->push_back(RealFlag("top-p", "sample within this probability", top_p, 1e-6, 1));
  flags->push_back(SeedFlag("seed", "of the random numbers", seed));
}

}  // namespace

std::vector<Flag> ServeFlags(ServeConfig* config) {
  std::vector<Flag> flags = {ModelFlag(&config->model)};
  flags.push_back(
      TextFlag("served-model-name", "NAME", "name that clients use", &config->served_model_name));
  flags.back().default_value = std::string("the name in the file");
  flags.push_back(ChatTemplate(&config->chat_template));
  flags.push_back(TextFlag("query-prefix", "TEXT", "in front of queries that are embedded",
                           &config->query_prefix));
  flags.back().default_value = std::string("the model folder's");
  flags.push_back(
      TextFlag("passage-prefix", "TEXT", "in front of passages", &config->passage_prefix));
  flags.back().default_value = std::string("the model folder's");
  SetTopic("What is served", 0, &flags);
  size_t first = flags.size();
  AppendServerFlags(config, &flags);
  SetTopic("Where, to whom", first, &flags);
  first = flags.size();
  AppendSchedulingFlags(&config->engine, &flags);
  SetTopic("How much at once", first, &flags);
  first = flags.size();
  AppendComputeFlags(&config->engine, &flags);
  AppendExpertMemoryFlags(&config->engine, &flags);
  SetTopic("With what", first, &flags);
  first = flags.size();
  flags.push_back(SeedFlag("seed", "of requests that bring none", &config->engine.seed));
  flags.push_back(TextFlag("record-trace", "FILE", "for `pregate simulate`; without what is said",
                           &config->engine.record_trace));
  SetTopic("Settings", first, &flags);
  for (Flag& flag : flags) {
    flag.rarely_needed = std::find(std::begin(kRareServeFlags), std::end(kRareServeFlags),
                                   flag.name) != std::end(kRareServeFlags);
  }
  return flags;
}

std::vector<Flag> ChatFlags(ChatConfig* config) {
  std::vector<Flag> flags = {ModelFlag(&config->model)};
  flags.push_back(SystemFlag(&config->system));
  flags.push_back(ChatTemplate(&config->chat_template));
  AppendSamplingFlags(&config->max_tokens, &config->temperature, &config->top_k, &config->top_p,
                      &config->seed, &flags);
  flags.push_back(MaxModelLen(&config->engine));
  AppendComputeFlags(&config->engine, &flags);
  AppendExpertMemoryFlags(&config->engine, &flags);
  return flags;
}

std::vector<Flag> GenerateFlags(GenerateConfig* config) {
  std::vector<Flag> flags = {ModelFlag(&config->model)};
  flags.push_back(TextFlag("prompt", "TEXT", "what to answer, -: standard input", &config->prompt));
  flags.back().short_name = std::string("p");
  flags.push_back(SystemFlag(&config->system));
  flags.push_back(SwitchFlag("raw", "continue the prompt without chat template", &config->raw));
  flags.push_back(ChatTemplate(&config->chat_template));
  flags.push_back(SwitchFlag("json", "one JSON object, with figures", &config->json));
  AppendSamplingFlags(&config->max_tokens, &config->temperature, &config->top_k, &config->top_p,
                      &config->seed, &flags);
  flags.push_back(MaxModelLen(&config->engine));
  AppendComputeFlags(&config->engine, &flags);
  AppendExpertMemoryFlags(&config->engine, &flags);
  return flags;
}

std::vector<Flag> EmbedFlags(EmbedConfig* config) {
  std::vector<Flag> flags = {ModelFlag(&config->model)};
  flags.push_back(TextFlag("prompt", "TEXT", "what to embed, -: standard input", &config->text));
  flags.back().short_name = std::string("p");
  flags.push_back(
      WordFlag("kind", "plain|query|passage", "chooses the model's prefix", &config->kind));
  flags.push_back(
      WordFlag("pooling", "model|cls|mean|last", "how rows become one vector", &config->pooling));
  flags.push_back(SwitchFlag("normalize", "to a length of 1", &config->normalize));
  flags.push_back(IntegerFlag("dimensions", "the first so many numbers", &config->dimensions, 1,
                              1 << 20, "all"));
  AppendComputeFlags(&config->engine, &flags);
  return flags;
}

std::vector<Flag> InspectFlags(InspectConfig* config) { return {ModelFlag(&config->model)}; }

std::vector<Flag> BenchFlags(BenchConfig* config) {
  BenchOptions* bench = &config->bench;
  std::vector<Flag> flags = {ModelFlag(&config->model)};
  flags.push_back(IntegerListFlag("prompt-tokens", "prompt lengths, comma-separated",
                                  &bench->prompt_tokens, 1, kMaxInt32));
  flags.push_back(IntegerListFlag("batch-sizes", "sequences at once, comma-separated",
                                  &bench->batch_sizes, 1, 4096));
  flags.push_back(IntegerFlag("decode-tokens", "tokens decoded after the prompt",
                              &bench->decode_tokens, 1, kMaxInt32));
  flags.push_back(IntegerFlag("repetitions", "runs of each cell; the median is shown",
                              &bench->repetitions, 1, 1000));
  flags.push_back(SwitchFlag("json", "print the report as JSON", &config->json));
  flags.push_back(SwitchFlag("by-turns", "before each run print \"ready\" and wait for a line",
                             &config->by_turns));
  flags.push_back(IntegerFlag("max-num-batched-tokens", "tokens computed in one step",
                              &config->engine.max_num_batched_tokens, 1, 65536));
  AppendComputeFlags(&config->engine, &flags);
  return flags;
}

namespace {

// Who asks, how often, for what.
void AppendArrivalFlags(SimulationOptions* options, std::vector<Flag>* flags) {
  flags->push_back(IntegerListFlag("load", "percent of what a closed loop reaches, comma-separated",
                                   &options->load, 1, 1000));
  flags->push_back(RealFlag("rate", "requests a second; 0: as recorded", &options->rate, 0, 1e6));
  flags->push_back(IntegerFlag("clients", "that each wait for their answer", &options->clients, 1,
                               1 << 20, "synthetic: max-num-seqs"));
  flags->push_back(IntegerFlag("warm-up-requests", "that are not measured",
                               &options->warm_up_requests, 0, kMaxInt32, "a tenth"));
  flags->push_back(IntegerFlag("experts", "synthetic: experts", &options->experts, 1, 64));
  flags->push_back(IntegerFlag("requests", "synthetic: requests", &options->requests, 1, 1 << 20));
  flags->push_back(
      IntegerFlag("prompt-tokens", "synthetic: mean of prompts", &options->prompt_tokens, 1, 1024));
  flags->push_back(
      IntegerFlag("answer-tokens", "synthetic: mean of answers", &options->answer_tokens, 1, 1024));
  flags->push_back(RealFlag("stickiness", "synthetic: share of tokens that keep their expert",
                            &options->stickiness, 0, 1));
  flags->push_back(SwitchFlag("tied", "synthetic: 7 experts that share neurons", &options->tied));
  flags->push_back(SeedFlag("seed", "synthetic: of the random numbers", &options->seed));
}

// The server and its machine. Below 0: not given.
void AppendServerFlags(SimulationOptions* options, std::vector<Flag>* flags) {
  const auto integer = [&](const char* name, const char* help, int32_t* target, int64_t low,
                           int64_t high, const char* otherwise) {
    flags->push_back(IntegerFlag(name, help, target, low, high, otherwise));
  };
  integer("max-num-seqs", "sequences that run at once", &options->max_num_seqs, 1, 4096,
          "as recorded, or 64");
  integer("max-num-step-seqs", "of these, in one step; 0: any", &options->max_num_step_seqs, 0,
          4096, "as recorded, or 0");
  integer("max-num-batched-tokens", "tokens computed in one step", &options->max_num_batched_tokens,
          1, 65536, "as recorded, or 2048");
  integer("max-num-prefill-tokens", "of these, of prompts beside answers",
          &options->max_num_prefill_tokens, 1, 65536, "as recorded, or 512");
  integer("router-lookahead-tokens", "of prompts routed ahead", &options->router_lookahead_tokens,
          0, kMaxRouterLookahead, "as recorded, or 2048");
  flags->push_back(WordFlag("expert-eviction", "recorded|planned|lru|lfu|random",
                            "which gives way; synthetic: planned", &options->expert_eviction));
  flags->push_back(
      SwitchFlag("expert-prefetch", "load experts for later steps", &options->expert_prefetch));
  flags->push_back(
      SwitchFlag("pipelined", "loads overlap with the layers before theirs", &options->pipelined));
  const auto real = [&](const char* name, const char* help, double* target, const char* otherwise) {
    flags->push_back(RealFlag(name, help, target, 0, 1e6));
    flags->back().default_value = std::string(otherwise);
  };
  real("step-ms", "what a step costs: each", &options->step_ms, "as recorded, or 31");
  real("row-ms", "and each token in it", &options->row_ms, "as recorded, or 0.03");
  real("expert-ms", "and each expert read", &options->expert_ms, "as recorded, or 2.5");
  real("load-ms", "to load an expert", &options->load_ms, "as recorded, or 40");
}

}  // namespace

std::vector<Flag> SimulateFlags(SimulateConfig* config) {
  SimulationOptions* options = &config->simulation;
  std::vector<Flag> flags = {
      TextFlag(kTraceFlag, "TRACE", "a file of --record-trace, or synthetic", &options->trace)};
  flags.push_back(SwitchFlag("replay", "only the recorded steps", &options->replay));
  flags.push_back(SwitchFlag("json", "print the report as JSON", &config->json));
  flags.push_back(WordListFlag("policies", "A,B", "auto|off|on|paper|decode-first|prefill-first",
                               "some of auto,off,on,paper,decode-first,prefill-first",
                               &options->policies));
  flags.back().default_value = std::string("all");
  flags.push_back(IntegerListFlag("experts-resident", "experts in memory, comma-separated",
                                  &options->experts_resident, 1, 64));
  flags.back().default_value = std::string("as recorded, or all");
  AppendArrivalFlags(options, &flags);
  AppendServerFlags(options, &flags);
  return flags;
}

}  // namespace pregate
