#include "server/serve.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "engine/engine.h"
#include "server/commands/chat_template_file.h"
#include "server/commands/progress_bar.h"
#include "server/file_limit.h"
#include "server/generation/served_model.h"
#include "server/generation/warm_up.h"
#include "server/grpc/grpc_server.h"
#include "server/http_door.h"
#include "server/identity/authorizer.h"
#include "server/identity/reloader.h"
#include "server/identity/small_file.h"
#include "server/identity/tls_files.h"
#include "server/log/request_log.h"
#include "server/metrics/metrics.h"
#include "server/stop_signals.h"
#include "server/tracing/resource.h"
#include "server/tracing/tracer.h"

namespace pregate {
namespace {

constexpr int kCannotListen = 1;
constexpr int kCannotUse = 2;
constexpr int kStuck = 3;
// For what was cut at the end of the drain: its last tokens and its status are still sent. Twice
// this, and what spans may take, is less than the 10 s that the chart's grace has for it.
constexpr absl::Duration kFlushTime = absl::Seconds(3);

int Fail(const absl::Status& status, int exit_status) {
  absl::FPrintF(stderr, "pregate: %s\n", status.message());
  return exit_status;
}

void Say(const std::string& line) { absl::FPrintF(stderr, "%s\n", line); }

absl::StatusOr<std::unique_ptr<Engine>> LoadModel(const ServeConfig& config) {
  ProgressBar bar("Loading");
  return Engine::Create(config.model, config.engine, [&bar](double share) { bar.Show(share); });
}

// The flag, else the name in the file, else the file's own name.
std::string ServedName(const ServeConfig& config, const ModelInfo& model) {
  if (!config.served_model_name.empty()) return config.served_model_name;
  if (!model.name.empty()) return model.name;
  return std::filesystem::weakly_canonical(config.model).stem().string();
}

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.rfind("127.", 0) == 0;
}

bool UseReflection(const ServeConfig& config) {
  if (config.reflection == Reflection::kAuto) return IsLoopback(config.host);
  return config.reflection == Reflection::kOn;
}

// What stands in front of texts that are embedded: the flags, else what the model's folder says.
absl::StatusOr<SentencePrompts> PromptsOf(const ServeConfig& config) {
  absl::StatusOr<SentencePrompts> prompts = ReadSentencePrompts(config.model);
  if (!prompts.ok()) return prompts.status();
  if (!config.query_prefix.empty()) prompts->query = config.query_prefix;
  if (!config.passage_prefix.empty()) prompts->passage = config.passage_prefix;
  return prompts;
}

// Who may call, and how connections are protected: the same for every front door.
struct Identity {
  std::unique_ptr<Authorizer> authorizer;
  std::unique_ptr<TlsFiles> tls;  // null: plain text
};

const std::string& MetricsHost(const ServeConfig& config) {
  return config.metrics_host.empty() ? config.host : config.metrics_host;
}

bool HasFiles(const ServeConfig& config) {
  return !config.api_key_file.empty() || config.tls.enabled();
}

absl::StatusOr<Identity> OpenIdentity(const ServeConfig& config) {
  absl::StatusOr<std::unique_ptr<Authorizer>> authorizer = Authorizer::Open(config.api_key_file);
  if (!authorizer.ok()) return authorizer.status();
  absl::StatusOr<std::unique_ptr<TlsFiles>> tls = TlsFiles::Open(config.tls);
  if (!tls.ok()) return tls.status();
  return Identity{*std::move(authorizer), *std::move(tls)};
}

// What an operator may not have meant.
void WarnOf(const ServeConfig& config, const Identity& identity) {
  if (!IsLoopback(config.host)) {
    if (identity.tls == nullptr) {
      Say("warning: no TLS (--ssl-certfile): whoever is on the way can read all of it");
    }
    if (config.api_key_file.empty() && config.tls.client_ca.empty()) {
      Say("warning: no tokens (--api-key-file): whoever can connect may ask");
    }
  }
  if (identity.tls != nullptr && !IsLoopback(MetricsHost(config))) {
    Say("warning: the metrics port has no TLS: see --metrics-host, or ask the HTTP port for "
        "/metrics");
  }
  if (!config.api_key_file.empty() && IsReadableByAll(config.api_key_file)) {
    Say("warning: every user of this machine can read the file of --api-key-file");
  }
  if (identity.tls != nullptr && identity.tls->material()->not_after <= absl::Now()) {
    Say("warning: the certificate of --ssl-certfile has expired");
  }
}

HttpDoorOptions HttpOptions(const ServeConfig& config, const Identity& identity) {
  HttpDoorOptions options;
  options.server.host = config.host;
  options.server.port = config.http_port;
  options.health_port = config.health_port;
  options.server.authorizer = identity.authorizer.get();
  options.server.tls = identity.tls.get();
  return options;
}

std::string HttpUrl(const ServeConfig& config, int port) {
  const bool ipv6 = config.host.find(':') != std::string::npos;
  return absl::StrCat(config.tls.enabled() ? "https://" : "http://", ipv6 ? "[" : "", config.host,
                      ipv6 ? "]:" : ":", port);
}

// A command that asks for what the model does, to be copied.
std::string HowToAsk(const ServeConfig& config, const std::string& url, const ServedModel& model) {
  std::string path = "completions", body = R"({"prompt":"Once upon a time"})";
  if (model.engine().model().scores) {
    path = std::string("rerank");
    body = std::string(R"({"query":"Who barks?","documents":["a cat","a dog"]})");
  } else if (!model.engine().model().generates) {
    path = std::string("embeddings");
    body = std::string(R"({"input":"Hello"})");
  } else if (model.chat_status().ok()) {
    path = std::string("chat/completions");
    // A small model may ramble to the end of its context.
    body = std::string(R"({"messages":[{"role":"user","content":"Hello"}],"max_tokens":64})");
  }
  return absl::StrCat("curl ", config.tls.enabled() ? "--cacert CA.pem " : "", url, "/v1/", path,
                      " -H 'Content-Type: application/json'",
                      config.api_key_file.empty() ? "" : " -H \"Authorization: Bearer $TOKEN\"",
                      " -d '", body, "'");
}

// Null when there is nothing to reload.
std::unique_ptr<Reloader> StartReloader(const ServeConfig& config, const Identity& identity,
                                        Metrics* metrics, RequestLog* log) {
  if (!HasFiles(config)) return nullptr;
  Reloader::Listener listener{[log](const std::string& note) { log->Note(note); },
                              [metrics](absl::Time end) { metrics->SetCertificateExpiry(end); }};
  if (!config.api_key_file.empty()) {
    listener.tokens_in_force = [metrics](bool ok) {
      metrics->SetFilesInForce(WatchedFiles::kTokens, ok);
    };
  }
  listener.certificates_in_force = [metrics](bool ok) {
    metrics->SetFilesInForce(WatchedFiles::kCertificates, ok);
  };
  return std::make_unique<Reloader>(identity.authorizer.get(), identity.tls.get(),
                                    std::move(listener));
}

// What requests are traced with. Null: they are not.
struct Tracing {
  std::unique_ptr<SpanExporter> exporter;
  std::unique_ptr<Tracer> tracer;
};

absl::StatusOr<std::optional<CollectorUrl>> CollectorOf(const ServeConfig& config) {
  if (config.otlp_traces_endpoint.empty()) return std::nullopt;
  return ReadCollectorUrl(config.otlp_traces_endpoint);
}

Tracing StartTracing(const ServeConfig& config, const std::string& model, Metrics* metrics,
                     RequestLog* log) {
  Tracing tracing;
  const auto collector = CollectorOf(config);
  if (!collector.ok() || !collector->has_value()) return tracing;  // Serve has said why
  SpanExporterOptions options;
  options.collector = **collector;
  options.resource = ResourceOf(ProcessEnv);
  tracing.exporter = std::make_unique<SpanExporter>(
      std::move(options), metrics, [log](const std::string& note) { log->Note(note); });
  tracing.tracer =
      std::make_unique<Tracer>(model, config.trace_sample_ratio, tracing.exporter.get());
  log->TraceWith(tracing.tracer.get());
  return tracing;
}

// Says in the log how steps are put together by expert, when that changes and has been so for a
// while.
class BatchingNotes {
 public:
  explicit BatchingNotes(RequestLog* log) : log_(log) {}

  void Observe(const StepStats& step) {
    if (step.expert_batching == said_ || absl::Now() < next_) return;
    said_ = step.expert_batching;
    next_ = absl::Now() + absl::Seconds(10);
    log_->Note(std::string(said_));
  }

 private:
  RequestLog* const log_;
  std::string_view said_;
  absl::Time next_;
};

// False: a step does not end, so that the engine's thread cannot be joined in any time.
bool Drain(const ServeConfig& config, const ServedModel& model, GrpcServer* server,
           HttpDoor* http) {
  Say("draining");
  server->StopServing();
  http->StopServing();
  absl::SleepFor(config.shutdown_delay);
  model.engine().StartDrain();
  bool idle = model.WaitUntilIdle(config.drain_timeout);
  if (!idle) {
    const absl::Status why = absl::UnavailableError("server: drain timeout; try another replica");
    server->AbortStreams(why);
    http->AbortStreams(why);
    idle = model.WaitUntilIdle(kFlushTime);
  }
  std::thread http_shutdown([http] { http->Shutdown(kFlushTime); });
  server->Shutdown(kFlushTime);
  http_shutdown.join();
  return idle;
}

// Serves with what has been loaded, until told to stop.
int ServeModel(const ServeConfig& config, const ServedModelOptions& options,
               const Identity& identity, Engine* engine, StopSignals* signals) {
  Metrics metrics(engine, options.name, config.metrics_compat, engine->stats());  // after WarmUp
  RequestLog log(config.log_format);
  const Tracing tracing = StartTracing(config, options.name, &metrics, &log);
  BatchingNotes notes(&log);
  engine->SetStepObserver([&metrics, &notes](const StepStats& step) {
    metrics.ObserveStep(step);
    notes.Observe(step);
  });
  if (absl::Status status = metrics.StartServer(MetricsHost(config), config.metrics_port);
      !status.ok()) {
    return Fail(status, kCannotListen);
  }
  const auto reloader = StartReloader(config, identity, &metrics, &log);
  if (reloader != nullptr) signals->OnHangup([&reloader] { reloader->Wake(); });
  const auto no_hangup = absl::MakeCleanup([signals] { signals->OnHangup(nullptr); });
  const ServedModel model(engine, &metrics, options);
  if (engine->model().generates && !model.chat_status().ok()) {
    // A template that the operator names must be sound. Where the model's own is not, or there is
    // none, everything else can still be served.
    if (!config.chat_template.empty()) return Fail(model.chat_status(), kCannotUse);
    Say(absl::StrCat("no chat: ", std::string(model.chat_status().message())));
  }
  GrpcServerOptions grpc_options;
  grpc_options.host = config.host;
  grpc_options.port = config.grpc_port;
  grpc_options.authorizer = identity.authorizer.get();
  grpc_options.tls = identity.tls.get();
  grpc_options.reflection = UseReflection(config);
  grpc_options.max_connection_age = config.grpc_max_connection_age;
  grpc_options.max_connection_age_grace = config.grpc_max_connection_age_grace;
  const auto server = GrpcServer::Start(grpc_options, &model, &log);
  if (!server.ok()) return Fail(server.status(), kCannotListen);
  const auto http = HttpDoor::Start(HttpOptions(config, identity), &model, &log);
  if (!http.ok()) {
    // Calls may have come in already.
    engine->StartDrain();
    (*server)->AbortStreams(http.status());
    (*server)->Shutdown(absl::ZeroDuration());
    const bool idle = engine->WaitUntilIdle(kFlushTime);
    const int exit_status = Fail(http.status(), kCannotListen);
    if (!idle) std::_Exit(exit_status);  // as where a drain does not end
    return exit_status;
  }
  signals->Arm();
  const std::string url = HttpUrl(config, (*http)->port());
  Say(absl::StrCat("HTTP     ", url, "/v1"));
  Say(absl::StrCat("gRPC     ", config.host, ":", (*server)->port(), "   model ", model.name()));
  Say(absl::StrCat("metrics  http://", MetricsHost(config), ":", metrics.port(), "/metrics"));
  if (const int probes = (*http)->health_port(); probes != 0) {
    Say(absl::StrCat("probes   http://", config.host, ":", probes, "/readyz"));
  }
  Say(absl::StrCat("ask      ", HowToAsk(config, url, model)));

  signals->Wait();
  if (!Drain(config, model, server->get(), http->get())) {
    Say("a step does not end; leaving without it");
    std::_Exit(kStuck);  // its thread still uses what the destructors would take away
  }
  return 0;
}

// What each rank has of the weights.
void SayRanks(const ModelInfo& info) {
  std::string text;
  for (const int64_t bytes : info.rank_weight_bytes) {
    absl::StrAppendFormat(&text, "%s%.1f", text.empty() ? "" : ", ", bytes / 1e6);
  }
  Say(absl::StrCat("ranks    ", info.rank_weight_bytes.size(), ", with ", text, " MB of weights"));
}

}  // namespace

int Serve(const ServeConfig& config) {
  StopSignals signals(HasFiles(config));
  RaiseFileLimit();
  const absl::StatusOr<Identity> identity = OpenIdentity(config);
  if (!identity.ok()) return Fail(identity.status(), kCannotUse);
  WarnOf(config, *identity);
  if (const auto collector = CollectorOf(config); !collector.ok()) {
    return Fail(collector.status(), kCannotUse);
  }
  ServedModelOptions options;
  absl::StatusOr<std::string> chat_template = ReadChatTemplate(config.chat_template);
  if (!chat_template.ok()) return Fail(chat_template.status(), kCannotUse);
  options.chat_template = *std::move(chat_template);
  absl::StatusOr<SentencePrompts> prompts = PromptsOf(config);
  if (!prompts.ok()) return Fail(prompts.status(), kCannotUse);
  options.prompts = *std::move(prompts);
  options.default_seed = config.engine.seed;
  options.overload_patience = config.overload_unready_after;

  const absl::StatusOr<std::unique_ptr<Engine>> engine = LoadModel(config);
  if (!engine.ok()) return Fail(engine.status(), kCannotUse);
  const ModelInfo& info = (*engine)->model();
  options.name = ServedName(config, info);
  Say(absl::StrFormat("%s  %s, %.0fM parameters, %s, context %d", options.name, info.architecture,
                      info.num_parameters / 1e6, info.device, info.max_model_len));
  if (!info.device_choice.empty()) Say(absl::StrCat("device   ", info.device_choice));
  if (info.rank_weight_bytes.size() > 1) SayRanks(info);
  if (config.engine.record_trace.empty()) {  // a trace has what was asked
    if (absl::Status status = WarmUp(engine->get()); !status.ok()) return Fail(status, kCannotUse);
  }
  return ServeModel(config, options, *identity, engine->get(), &signals);
}

}  // namespace pregate
