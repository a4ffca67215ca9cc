// pregate-client: a question to a server, its answer on standard output. Exit status: 0 only when
// something was streamed and the call ended well (or when only --wait was asked for and the server
// is ready); 1: not so; 2: bad usage.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <variant>

#include "grpc/health/v1/health.grpc.pb.h"
#include "pregate/v1/inference.grpc.pb.h"
#include "server/client/options.h"

namespace pregate {
namespace {

using Clock = std::chrono::system_clock;
namespace health = grpc::health::v1;

const char* CodeName(grpc::StatusCode code) {
  constexpr const char* kNames[] = {"OK",
                                    "CANCELLED",
                                    "UNKNOWN",
                                    "INVALID_ARGUMENT",
                                    "DEADLINE_EXCEEDED",
                                    "NOT_FOUND",
                                    "ALREADY_EXISTS",
                                    "PERMISSION_DENIED",
                                    "RESOURCE_EXHAUSTED",
                                    "FAILED_PRECONDITION",
                                    "ABORTED",
                                    "OUT_OF_RANGE",
                                    "UNIMPLEMENTED",
                                    "INTERNAL",
                                    "UNAVAILABLE",
                                    "DATA_LOSS",
                                    "UNAUTHENTICATED"};
  return code >= 0 && static_cast<size_t>(code) < std::size(kNames) ? kNames[code] : "UNKNOWN";
}

int Fail(const std::string& what) {
  std::fprintf(stderr, "pregate-client: %s\n", what.c_str());
  return 1;
}

// Until the server says SERVING; an error when it has not in time.
grpc::Status WaitUntilReady(const std::shared_ptr<grpc::Channel>& channel, double seconds) {
  const auto deadline =
      Clock::now() + std::chrono::milliseconds(static_cast<int64_t>(seconds * 1e3));
  const auto stub = health::Health::NewStub(channel);
  for (;;) {
    grpc::ClientContext context;
    context.set_deadline(deadline);
    context.set_wait_for_ready(true);
    health::HealthCheckRequest request;
    request.set_service(v1::Inference::service_full_name());
    health::HealthCheckResponse response;
    const grpc::Status status = stub->Check(&context, request, &response);
    if (status.ok() && response.status() == health::HealthCheckResponse::SERVING) return status;
    if (Clock::now() >= deadline) {
      return status.ok() ? grpc::Status(grpc::UNAVAILABLE, "the server says NOT_SERVING") : status;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

v1::GenerateRequest AsRequest(const ClientOptions& options) {
  v1::GenerateRequest request;
  if (options.text.has_value()) {
    request.set_text(*options.text);
  } else {
    auto add = [&request](const char* role, const std::string& content) {
      v1::ChatMessage* message = request.mutable_chat()->add_messages();
      message->set_role(role);
      message->set_content(content);
    };
    if (!options.system.empty()) add("system", options.system);
    add("user", *options.chat);
  }
  v1::SamplingParams* sampling = request.mutable_sampling();
  if (options.max_tokens.has_value()) sampling->set_max_tokens(*options.max_tokens);
  if (options.temperature.has_value()) sampling->set_temperature(*options.temperature);
  if (options.seed.has_value()) sampling->set_seed(*options.seed);
  for (const std::string& stop : options.stop) sampling->add_stop(stop);
  return request;
}

int Ask(const std::shared_ptr<grpc::Channel>& channel, const ClientOptions& options) {
  const auto stub = v1::Inference::NewStub(channel);
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, AsRequest(options));
  size_t written = 0;
  bool at_line_start = true;
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    const std::string& text = response.text();
    if (text.empty()) continue;
    written += std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
    at_line_start = text.back() == '\n';
  }
  if (!at_line_start) std::fputs("\n", stdout);
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) return Fail("cannot write the answer");
  const grpc::Status status = reader->Finish();
  if (!status.ok()) {
    return Fail(std::string(CodeName(status.error_code())) + ": " + status.error_message());
  }
  return written > 0 ? 0 : Fail("the answer is empty");
}

int Run(const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  // A server that is waited for is met soon after it has come.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  const auto channel =
      grpc::CreateCustomChannel(options.target, grpc::InsecureChannelCredentials(), arguments);
  if (options.wait_seconds > 0) {
    const grpc::Status ready = WaitUntilReady(channel, options.wait_seconds);
    if (!ready.ok()) return Fail(options.target + " is not ready: " + ready.error_message());
  }
  const bool asked = options.chat.has_value() || options.text.has_value();
  return asked ? Ask(channel, options) : 0;
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  const auto options = pregate::ParseClientOptions(argc, argv);
  if (const int* exit_status = std::get_if<int>(&options)) return *exit_status;
  return pregate::Run(std::get<pregate::ClientOptions>(options));
}
