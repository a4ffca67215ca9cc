#include "server/grpc/grpc_server.h"

#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/generation/step_watch.h"
#include "server/grpc/inference_service.h"
#include "server/grpc/messages.h"

namespace pregate {
namespace {

constexpr int kMaxStreamsPerConnection = 100;
constexpr int kMaxMetadataBytes = 8 << 10;
constexpr size_t kTransportMemory = 512 << 20;  // buffers of all connections together
constexpr int kKeepaliveMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr int kMinPingIntervalMs = 10'000;      // of clients; more often is abuse
constexpr int kConnectionIdleMs = 15 * 60'000;  // without a call
constexpr absl::string_view kReflectionPlugin = "proto_server_reflection";

// Linking the reflection library turns it on for every server of the process; this decides anew.
class ReflectionOption : public grpc::ServerBuilderOption {
 public:
  explicit ReflectionOption(bool on) : on_(on) {}
  void UpdateArguments(grpc::ChannelArguments* /*arguments*/) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    auto reflects = [](const auto& plugin) { return plugin->name() == kReflectionPlugin; };
    plugins->erase(std::remove_if(plugins->begin(), plugins->end(), reflects), plugins->end());
    if (on_) plugins->push_back(std::make_unique<grpc::reflection::ProtoServerReflectionPlugin>());
  }

 private:
  bool on_;
};

// The library's own messages tell users nothing that our statuses do not; who debugs it sets
// GRPC_VERBOSITY.
void QuietLibrary() {
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
}

void SetLimits(grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder->SetResourceQuota(grpc::ResourceQuota("pregate").Resize(kTransportMemory));
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
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

class Server : public GrpcServer {
 public:
  Server(const GrpcServerOptions& options, const ServedModel* model, RequestLog* log)
      : service_(&environment_),
        step_watch_(options.step_timeout),
        pump_([this] { UpdateHealth(); }) {
    environment_.model = model;
    environment_.pump = &pump_;
    environment_.log = log;
    environment_.stall_timeout = options.stall_timeout;
  }

  absl::Status Listen(const GrpcServerOptions& options) {
    grpc::EnableDefaultHealthCheckService(true);
    QuietLibrary();
    grpc::ServerBuilder builder;
    SetLimits(&builder);
    builder.SetOption(std::make_unique<ReflectionOption>(options.reflection));
    builder.RegisterService(&service_);
    const std::string address = Address(options.host, options.port);
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return absl::UnavailableError(
          absl::StrCat("gRPC: cannot listen on ", address, "; is it in use?"));
    }
    SetHealth(true);
    listening_ = true;
    return absl::OkStatus();
  }

  int port() const override { return port_; }

  void StopServing() override {
    listening_ = false;
    SetHealth(false);
  }

  void AbortStreams(const absl::Status& why) override { pump_.AbortAll(why); }

  void Shutdown(absl::Duration grace) override {
    server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
    server_->Wait();
  }

 private:
  // On the pump's thread, every second.
  void UpdateHealth() {
    if (!listening_) return;
    SetHealth(!step_watch_.Stuck(environment_.model->engine().stats(), absl::Now()));
    if (!listening_) SetHealth(false);  // StopServing came in between
  }

  void SetHealth(bool serving) {
    grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
    health->SetServingStatus("", serving);
    health->SetServingStatus(v1::Inference::service_full_name(), serving);
  }

  CallEnvironment environment_;
  InferenceService service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::atomic<bool> listening_ = false;
  StepWatch step_watch_;
  StreamPump pump_;  // last: its thread calls UpdateHealth
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
