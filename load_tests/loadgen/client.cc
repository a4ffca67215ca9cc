#include "load_tests/loadgen/client.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pregate/v1/inference.grpc.pb.h"

namespace pregate {
namespace {

using v1::GenerateRequest;
using v1::GenerateResponse;
using v1::Inference;

constexpr double kConnectPatienceS = 5.0;

std::chrono::system_clock::time_point FromNow(double seconds) {
  return std::chrono::system_clock::now() +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(
             std::chrono::duration<double>(seconds));
}

// A channel with a connection of its own: by default, equal channels share one.
std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

// One request on its way. It has one operation in the completion queue at any time.
struct Call {
  enum class Waiting : uint8_t { kForStart, kForMessage, kForEnd };

  explicit Call(RequestRecord* its_record) : record(its_record) {}

  RequestRecord* const record;
  Waiting waiting = Waiting::kForStart;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientAsyncReader<GenerateResponse>> reader;
  GenerateResponse message;
  grpc::Status status;
};

class Run {
 public:
  Run(const ClientOptions& options, const Load& load, const Prompts& prompts)
      : options_(options), prompts_(prompts), pace_(load) {}
  ~Run() {
    queue_.Shutdown();
    void* tag;
    bool ok;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  absl::Status OpenConnections() {
    for (int i = 0; i < options_.connections; ++i) {
      const std::shared_ptr<grpc::Channel> channel = Connect(options_.address);
      if (!channel->WaitForConnected(FromNow(kConnectPatienceS))) {
        return absl::UnavailableError(absl::StrCat("no connection to ", options_.address));
      }
      stubs_.push_back(Inference::NewStub(channel));
    }
    return absl::OkStatus();
  }

  std::vector<RequestRecord> Execute() {
    return pace_.Execute(
        [this] { Send(); },
        [this] {
          void* tag = nullptr;
          bool ok = false;
          if (queue_.AsyncNext(&tag, &ok, WakeUpTime()) == grpc::CompletionQueue::GOT_EVENT) {
            Advance(static_cast<Call*>(tag), ok);
          }
        });
  }

 private:
  gpr_timespec WakeUpTime() const {
    const std::optional<double> wait = pace_.UntilDue();
    if (!wait) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_nanos(static_cast<int64_t>(1e9 * *wait), GPR_TIMESPAN));
  }

  void Send() {
    size_t number;
    RequestRecord* record = pace_.Begin(&number);
    GenerateRequest request;
    const std::vector<uint32_t> ids =
        prompts_.Make(static_cast<int64_t>(number), record->prompt_tokens);
    request.mutable_token_ids()->mutable_ids()->Assign(ids.begin(), ids.end());
    request.mutable_sampling()->set_max_tokens(record->max_tokens);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_sampling()->set_ignore_eos(true);

    auto* call = new Call(record);  // deleted when it has ended
    call->context.set_deadline(FromNow(options_.timeout_s));
    call->reader =
        stubs_[number % stubs_.size()]->PrepareAsyncGenerate(&call->context, request, &queue_);
    call->reader->StartCall(call);
    record->sent_s = pace_.Now();
  }

  // Takes what the call waited for. `ok`: it came; otherwise the call's status is due.
  void Advance(Call* call, bool ok) {
    if (call->waiting == Call::Waiting::kForEnd) {
      End(call);
      return;
    }
    if (!ok) {
      call->waiting = Call::Waiting::kForEnd;
      call->reader->Finish(&call->status, call);
      return;
    }
    if (call->waiting == Call::Waiting::kForMessage && call->message.token_ids_size() > 0) {
      call->record->token_s.push_back(pace_.Now());
      call->record->token_counts.push_back(call->message.token_ids_size());
    }
    call->waiting = Call::Waiting::kForMessage;
    call->reader->Read(&call->message, call);
  }

  void End(Call* call) {
    call->record->end_s = pace_.Now();
    // The codes of gRPC and Abseil are the same numbers.
    call->record->status =
        absl::StatusCodeToString(static_cast<absl::StatusCode>(call->status.error_code()));
    if (!call->status.ok()) call->record->error = call->status.error_message();
    pace_.End();
    delete call;
  }

  const ClientOptions& options_;
  const Prompts& prompts_;
  Pace pace_;
  std::vector<std::unique_ptr<Inference::Stub>> stubs_;
  grpc::CompletionQueue queue_;
};

}  // namespace

absl::StatusOr<ServerInfo> AwaitServer(const std::string& address, double patience_s) {
  const std::unique_ptr<Inference::Stub> stub = Inference::NewStub(Connect(address));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(FromNow(patience_s));
  v1::ListModelsResponse response;
  const grpc::Status status = stub->ListModels(&context, v1::ListModelsRequest(), &response);
  if (!status.ok()) {
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                        absl::StrCat(address, ": ", status.error_message()));
  }
  if (response.models().empty() || response.models(0).limits().vocab_size() == 0) {
    return absl::FailedPreconditionError(absl::StrCat(address, ": serves no model"));
  }
  const v1::Model& model = response.models(0);
  return ServerInfo{model.name(), model.limits().vocab_size(), model.limits().max_model_len()};
}

absl::StatusOr<std::vector<uint32_t>> TokenizeText(const std::string& address,
                                                   const std::string& text) {
  const std::unique_ptr<Inference::Stub> stub = Inference::NewStub(Connect(address));
  grpc::ClientContext context;
  v1::TokenizeRequest request;
  request.set_text(text);
  request.set_add_special(false);
  v1::TokenizeResponse response;
  const grpc::Status status = stub->Tokenize(&context, request, &response);
  if (!status.ok()) {
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                        absl::StrCat("--text: ", status.error_message()));
  }
  return std::vector<uint32_t>(response.ids().begin(), response.ids().end());
}

absl::StatusOr<std::vector<RequestRecord>> RunLoad(const ClientOptions& options, const Load& load,
                                                   const Prompts& prompts) {
  Run run(options, load, prompts);
  if (absl::Status status = run.OpenConnections(); !status.ok()) return status;
  return run.Execute();
}

}  // namespace pregate
