// pregate-client: a question to a server, its answer on standard output. Exit status: 0 only when
// something was streamed and the call ended well (or when only --wait was asked for and the server
// is ready); 1: not so; 2: bad usage.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "pregate/v1/inference.grpc.pb.h"
#include "server/client/options.h"
#include "server/identity/small_file.h"

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

// The token to send; "": none.
absl::StatusOr<std::string> Token(const ClientOptions& options) {
  if (options.api_key_file.empty()) {
    const char* token = std::getenv("PREGATE_API_KEY");
    return token == nullptr ? "" : token;
  }
  const absl::StatusOr<std::string> text = ReadSmallFile("api-key-file", options.api_key_file);
  if (!text.ok()) return text.status();
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    const size_t colon = line.find(':');  // "name:token" in a file of the server's
    if (colon != absl::string_view::npos) line.remove_prefix(colon + 1);
    return std::string(absl::StripAsciiWhitespace(line));
  }
  return FileError("api-key-file", "hold a token", options.api_key_file);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(
    const ClientOptions& options) {
  if (!options.tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions ssl;
  const std::tuple<const char*, const std::string&, std::string&> files[] = {
      {"ssl-ca-certs", options.ssl_ca_certs, ssl.pem_root_certs},
      {"ssl-certfile", options.ssl_certfile, ssl.pem_cert_chain},
      {"ssl-keyfile", options.ssl_keyfile, ssl.pem_private_key},
  };
  for (const auto& [flag, path, pem] : files) {
    if (path.empty()) continue;
    absl::StatusOr<std::string> text = ReadSmallFile(flag, path);
    if (!text.ok()) return text.status();
    pem = *std::move(text);
  }
  return grpc::SslCredentials(ssl);
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

int Ask(const std::shared_ptr<grpc::Channel>& channel, const std::string& token,
        const ClientOptions& options) {
  const auto stub = v1::Inference::NewStub(channel);
  grpc::ClientContext context;
  if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
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
  const absl::StatusOr<std::string> token = Token(options);
  if (!token.ok()) return Fail(std::string(token.status().message()));
  const auto credentials = Credentials(options);
  if (!credentials.ok()) return Fail(std::string(credentials.status().message()));
  grpc::ChannelArguments arguments;
  // A server that is waited for is met soon after it has come.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  const auto channel = grpc::CreateCustomChannel(options.target, *credentials, arguments);
  if (options.wait_seconds > 0) {
    const grpc::Status ready = WaitUntilReady(channel, options.wait_seconds);
    if (!ready.ok()) return Fail(options.target + " is not ready: " + ready.error_message());
  }
  const bool asked = options.chat.has_value() || options.text.has_value();
  return asked ? Ask(channel, *token, options) : 0;
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  const auto options = pregate::ParseClientOptions(argc, argv);
  if (const int* exit_status = std::get_if<int>(&options)) return *exit_status;
  return pregate::Run(std::get<pregate::ClientOptions>(options));
}
