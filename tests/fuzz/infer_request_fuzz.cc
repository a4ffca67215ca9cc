// Any bytes as a ModelInferRequest: refused with a type, or read within the limits that are
// promised.
#include <google/protobuf/stubs/logging.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "server/grpc/open_inference_messages.h"
#include "tests/fuzz/fuzz_target.h"

namespace pregate {
namespace {

[[noreturn]] void Broken(const char* promise, const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", promise, what.c_str());
  std::abort();
}

inference::ModelInferRequest Seed(bool raw) {
  inference::ModelInferRequest message;
  message.set_model_name("smollm2");
  message.set_id("1");
  auto add = [&](const char* name, const char* datatype, int64_t size) {
    auto* input = message.add_inputs();
    input->set_name(name);
    input->set_datatype(datatype);
    input->add_shape(size);
    return input->mutable_contents();
  };
  auto* text = add("text_input", "BYTES", 1);
  auto* max_tokens = add("max_tokens", "INT32", 1);
  auto* temperature = add("temperature", "FP32", 1);
  auto* stop = add("stop", "BYTES", 2);
  auto* stream = add("stream", "BOOL", 1);
  if (raw) {
    for (auto& input : *message.mutable_inputs()) input.clear_contents();
    message.add_raw_input_contents(RawBytes("The capital of France is"));
    message.add_raw_input_contents(std::string("\x10\0\0\0", 4));
    message.add_raw_input_contents(std::string(4, '\0'));
    message.add_raw_input_contents(RawBytes(".") + RawBytes("\n"));
    message.add_raw_input_contents(std::string(1, '\0'));
  } else {
    text->add_bytes_contents("The capital of France is");
    max_tokens->add_int_contents(16);
    temperature->add_fp32_contents(0);
    stop->add_bytes_contents(".");
    stop->add_bytes_contents("\n");
    stream->add_bool_contents(true);
  }
  auto& parameters = *message.mutable_parameters();
  parameters["seed"].set_uint64_param(7);
  parameters["top_p"].set_double_param(0.5);
  parameters["priority"].set_int64_param(1);
  parameters["timeout"].set_int64_param(1000);
  parameters["triton_enable_empty_final_response"].set_bool_param(true);
  message.add_outputs()->set_name("text_output");
  return message;
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {Seed(false).SerializeAsString(), Seed(true).SerializeAsString()};
}

}  // namespace pregate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pregate;  // NOLINT: the whole body speaks of it
  [[maybe_unused]] static auto* const quiet = google::protobuf::SetLogHandler(nullptr);
  inference::ModelInferRequest message;
  if (!message.ParseFromArray(data, static_cast<int>(size))) return 0;
  for (const InferMethod method : {InferMethod::kInfer, InferMethod::kStreamInfer}) {
    absl::StatusOr<InferRequest> read = FromMessage(message);
    absl::StatusOr<ClientRequest> request =
        read.ok() ? ToClientRequest(*std::move(read), method) : read.status();
    if (!request.ok()) {
      if (absl::IsNotFound(request.status())) continue;  // another version
      ExpectTyped(request.status());
      continue;
    }
    if (!std::holds_alternative<std::string>(request->prompt)) Broken("there is a text", "none");
    if (request->stop.size() > static_cast<size_t>(kMaxStopStrings)) {
      Broken("stop strings are counted", absl::StrCat(request->stop.size()));
    }
    if (request->stream && method == InferMethod::kInfer) Broken("one response", "stream");
  }
  return 0;
}
