#include "server/grpc/grpc_server.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpc/health/v1/health.pb.h"
#include "server/generation/step_watch.h"
#include "server/grpc/gate.h"
#include "server/grpc/guarded_inference.h"
#include "server/grpc/messages.h"
#include "server/grpc/open_inference_service.h"
#include "server/grpc/reflection.h"
#include "server/grpc/tls_credentials.h"

namespace pregate {
namespace {

constexpr int kMaxStreamsPerConnection = 100;
constexpr int kMaxMetadataBytes = 8 << 10;
constexpr size_t kTransportMemory = 512 << 20;  // buffers of all connections together
constexpr int kHandshakeMs = 10'000;            // of a connection that says nothing
constexpr int kKeepaliveMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr int kMinPingIntervalMs = 10'000;      // of clients; more often is abuse
constexpr int kConnectionIdleMs = 15 * 60'000;  // without a call

// The library's own messages tell users nothing that our statuses do not; who debugs it sets
// GRPC_VERBOSITY. Failed handshakes are told of nowhere else.
void TakeLibraryLog() {
  google::protobuf::SetLogHandler(nullptr);  // it has a line for each broken byte of a client's
  gpr_set_log_function([](gpr_log_func_args* line) {
    static const bool shown = std::getenv("GRPC_VERBOSITY") != nullptr;
    CountInLog(line->file, line->message);
    if (shown) std::fprintf(stderr, "grpc: %s:%d: %s\n", line->file, line->line, line->message);
  });
}

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(duration));
}

// After its age a connection takes no new call, and its client makes another. The library spreads
// the ages by a tenth, so that clients do not all come back at once.
void SetConnectionAge(const GrpcServerOptions& options, grpc::ServerBuilder* builder) {
  if (options.max_connection_age <= absl::ZeroDuration()) return;
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS,
                              Milliseconds(options.max_connection_age));
  if (options.max_connection_age_grace <= absl::ZeroDuration()) return;
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
                              Milliseconds(options.max_connection_age_grace));
}

void SetLimits(grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder->SetResourceQuota(grpc::ResourceQuota("pregate").Resize(kTransportMemory));
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder->AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                              kMinPingIntervalMs);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kConnectionIdleMs);
  // Two servers on one port would share its clients by chance.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

std::string Address(const std::string& host, int port) {
  const bool ipv6 = host.find(':') != std::string::npos;
  return ipv6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

// The gRPC library serves this one itself, and lets everybody ask it.
std::string HealthServiceName() {
  return grpc::health::v1::HealthCheckRequest::descriptor()->file()->service(0)->full_name();
}

class Server : public GrpcServer {
 public:
  Server(const GrpcServerOptions& options, const ServedModel* model, RequestLog* log)
      : gate_(options.authorizer, &environment_),
        service_(&environment_),
        guarded_service_(&gate_, &service_),
        open_inference_(&gate_, &environment_, &state_),
        step_watch_(options.step_timeout),
        pumps_([this] { Tick(); }) {
    if (options.tls != nullptr) tls_ = std::make_unique<TlsCredentials>(options.tls);
    environment_.model = model;
    environment_.pumps = &pumps_;
    environment_.log = log;
    environment_.stall_timeout = options.stall_timeout;
  }

  absl::Status Listen(const GrpcServerOptions& options) {
    grpc::EnableDefaultHealthCheckService(true);
    TakeLibraryLog();
    grpc::ServerBuilder builder;
    SetLimits(&builder);
    SetConnectionAge(options, &builder);
    builder.RegisterService(&guarded_service_);
    builder.RegisterService(&open_inference_);
    if (options.reflection) {
      reflection_ = MakeReflection(
          &gate_, {v1::Inference::service_full_name(),
                   inference::GRPCInferenceService::service_full_name(), HealthServiceName()});
    }
    for (const auto& service : reflection_) builder.RegisterService(service.get());
    const std::string address = Address(options.host, options.port);
    builder.AddListeningPort(
        address, tls_ == nullptr ? grpc::InsecureServerCredentials() : tls_->ForPort(), &port_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return absl::UnavailableError(
          absl::StrCat("gRPC: cannot listen on ", address, "; is it in use?"));
    }
    listening_ = true;
    SetHealth(true, true);
    return absl::OkStatus();
  }

  int port() const override { return port_; }

  void StopServing() override {
    listening_ = false;
    SetHealth(state_.live, false);
  }

  void AbortStreams(const absl::Status& why) override { pumps_.AbortAll(why); }

  void Shutdown(absl::Duration grace) override {
    // Streams that a client keeps open for more requests would wait for it.
    AbortStreams(absl::UnavailableError("server: stopping; try another replica"));
    server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
    server_->Wait();
  }

 private:
  // On the first pump's thread, every second.
  void Tick() {
    const int64_t failed = FailedHandshakes();
    environment_.model->metrics().CountFailedHandshakes(Listener::kGrpc,
                                                        failed - failed_handshakes_);
    failed_handshakes_ = failed;
    if (!listening_) return;
    const bool live = !step_watch_.Stuck(environment_.model->engine().stats(), absl::Now());
    SetHealth(live, live && !environment_.model->IsOverloaded());
    if (!listening_) SetHealth(live, false);  // StopServing came in between
  }

  void SetHealth(bool live, bool ready) {
    state_.live = live;
    state_.ready = ready;
    grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
    for (const std::string service : {"", v1::Inference::service_full_name(),
                                      inference::GRPCInferenceService::service_full_name()}) {
      health->SetServingStatus(service, ready);
    }
  }

  CallEnvironment environment_;
  ServerState state_;
  const Gate gate_;
  InferenceService service_;
  GuardedInference guarded_service_;
  OpenInferenceService open_inference_;
  std::vector<std::unique_ptr<grpc::Service>> reflection_;
  std::unique_ptr<TlsCredentials> tls_;  // null: plain text
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::atomic<bool> listening_ = false;
  StepWatch step_watch_;
  int64_t failed_handshakes_ = FailedHandshakes();  // that have been counted; Tick's own
  StreamPumps pumps_;                               // last: a thread of it calls Tick
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcServerOptions& options,
                                                              const ServedModel* model,
                                                              RequestLog* log) {
  auto server = std::make_unique<Server>(options, model, log);
  if (absl::Status status = server->Listen(options); !status.ok()) return status;
  return server;
}

}  // namespace pregate
