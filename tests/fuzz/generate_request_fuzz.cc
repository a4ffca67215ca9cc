// Any bytes as a pregate.v1.GenerateRequest: refused with a type, or read within the limits that
// are promised.
#include <google/protobuf/stubs/logging.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "server/grpc/messages.h"
#include "tests/fuzz/fuzz_target.h"

namespace pregate {
namespace {

constexpr int32_t kMaxModelLen = 64;

[[noreturn]] void Broken(const char* promise, const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", promise, what.c_str());
  std::abort();
}

void CheckLimits(const ClientRequest& request) {
  auto check = [](const char* field, size_t count, int64_t most) {
    if (count > static_cast<size_t>(most)) {
      Broken("what repeats is counted", absl::StrCat(field, " ", count));
    }
  };
  check("stop", request.stop.size(), kMaxStopStrings);
  check("stop_token_ids", request.stop_ids.size(), kMaxStopIds);
  check("logit_bias", request.sampling.logit_bias.size(), kMaxLogitBias);
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&request.prompt)) {
    check("token_ids", ids->size(), kMaxModelLen);
    for (const int32_t id : *ids) {
      if (id < 0) Broken("ids are not negative", absl::StrCat(id));
    }
  }
  if (const auto* chat = std::get_if<std::vector<ChatMessage>>(&request.prompt)) {
    check("chat", chat->size(), kMaxChatMessages);
  }
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  v1::GenerateRequest text;
  text.set_model("smollm2");
  text.set_request_id("id");
  text.set_tenant("tenant");
  text.set_text("The capital of France is");
  text.set_stream(true);
  v1::SamplingParams* sampling = text.mutable_sampling();
  sampling->set_max_tokens(16);
  sampling->set_temperature(0.5f);
  sampling->set_top_p(0.9f);
  sampling->set_seed(7);
  sampling->set_n(2);
  sampling->set_logprobs(3);
  sampling->add_stop(std::string("\n"));
  sampling->add_stop_token_ids(2);
  (*sampling->mutable_logit_bias())[5] = 1.0f;
  v1::GenerateRequest ids = text;
  for (int id = 0; id < 8; ++id) ids.mutable_token_ids()->add_ids(id * 1000);
  v1::GenerateRequest chat = text;
  for (const char* role : {"system", "user"}) {
    v1::ChatMessage* message = chat.mutable_chat()->add_messages();
    message->set_role(role);
    message->set_content("Hello");
  }
  v1::GenerateRequest constrained = text;
  constrained.mutable_sampling()->set_regex("a*");
  return {text.SerializeAsString(), ids.SerializeAsString(), chat.SerializeAsString(),
          constrained.SerializeAsString()};
}

}  // namespace pregate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pregate;  // NOLINT: the whole body speaks of it
  [[maybe_unused]] static auto* const quiet = google::protobuf::SetLogHandler(nullptr);
  v1::GenerateRequest message;
  if (!message.ParseFromArray(data, static_cast<int>(size))) return 0;
  const absl::StatusOr<ClientRequest> request = FromMessage(message, kMaxModelLen);
  if (request.ok()) {
    CheckLimits(*request);
  } else {
    ExpectTyped(request.status());
  }
  return 0;
}
