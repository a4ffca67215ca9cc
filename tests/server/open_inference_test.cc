// Messages of the Open Inference Protocol: what is read of them, and every lie about a tensor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/grpc/open_inference_messages.h"
#include "tests/server/random_server.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Message = inference::ModelInferRequest;

Message::InferInputTensor* AddInput(Message* message, const std::string& name,
                                    const std::string& datatype,
                                    const std::vector<int64_t>& shape = {1}) {
  auto* input = message->add_inputs();
  input->set_name(name);
  input->set_datatype(datatype);
  for (const int64_t size : shape) input->add_shape(size);
  return input;
}

// A request with typed contents that asks for "Hi".
Message Typed() {
  Message message;
  message.set_model_name("random");
  message.set_id("id 1");
  AddInput(&message, "text_input", "BYTES")->mutable_contents()->add_bytes_contents("Hi");
  return message;
}

// The same in raw form.
Message Raw() {
  Message message;
  message.set_model_name("random");
  AddInput(&message, "text_input", "BYTES");
  message.add_raw_input_contents(RawBytes("Hi"));
  return message;
}

void AddRaw(Message* message, const std::string& name, const std::string& datatype,
            const std::string& bytes, const std::vector<int64_t>& shape = {1}) {
  AddInput(message, name, datatype, shape);
  message->add_raw_input_contents(bytes);
}

absl::StatusOr<ClientRequest> Read(const Message& message,
                                   InferMethod method = InferMethod::kInfer) {
  absl::StatusOr<InferRequest> request = FromMessage(message);
  if (!request.ok()) return request.status();
  return ToClientRequest(*std::move(request), method);
}

ClientRequest Good(const Message& message, InferMethod method = InferMethod::kInfer) {
  absl::StatusOr<ClientRequest> request = Read(message, method);
  EXPECT_TRUE(request.ok()) << request.status();
  return request.ok() ? *std::move(request) : ClientRequest();
}

void ExpectRefused(const Message& message, const std::string& begins,
                   absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
  const absl::Status status = Read(message).status();
  EXPECT_EQ(status.code(), code) << begins;
  EXPECT_THAT(std::string(status.message()), StartsWith(begins));
  EXPECT_THAT(std::string(status.message()), HasSubstr("; got "));
}

template <typename T>
std::string BytesOf(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

TEST(OpenInference, TypedContentsOfEveryKind) {
  Message message = Typed();
  auto contents = [&message](const std::string& name, const std::string& datatype) {
    return AddInput(&message, name, datatype)->mutable_contents();
  };
  contents("max_tokens", "INT32")->add_int_contents(7);
  contents("min_tokens", "UINT8")->add_uint_contents(3);
  contents("temperature", "FP32")->add_fp32_contents(0.5f);
  contents("top_p", "FP64")->add_fp64_contents(0.25);
  contents("top_k", "INT64")->add_int64_contents(-1);
  contents("seed", "UINT64")->add_uint64_contents(~uint64_t{0});
  contents("ignore_eos", "BOOL")->add_bool_contents(true);
  auto* stop = AddInput(&message, "stop", "BYTES", {2})->mutable_contents();
  stop->add_bytes_contents("a");
  stop->add_bytes_contents("b");
  const ClientRequest request = Good(message);
  EXPECT_EQ(std::get<std::string>(request.prompt), "Hi");
  EXPECT_EQ(request.model, "random");
  EXPECT_EQ(request.request_id, "id 1");
  EXPECT_EQ(request.max_tokens, 7);
  EXPECT_EQ(request.min_tokens, 3);
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_EQ(request.sampling.top_p, 0.25f);
  EXPECT_EQ(request.sampling.top_k, -1);
  EXPECT_EQ(request.seed, ~uint64_t{0});
  EXPECT_TRUE(request.ignore_eos);
  EXPECT_THAT(request.stop, ElementsAre("a", "b"));
  EXPECT_FALSE(request.stream);
}

TEST(OpenInference, RawContentsOfEveryKind) {
  Message message = Raw();
  AddRaw(&message, "max_tokens", "INT16", BytesOf<int16_t>(300));
  AddRaw(&message, "min_tokens", "INT8", BytesOf<int8_t>(-2));
  AddRaw(&message, "temperature", "FP64", BytesOf(0.5));
  AddRaw(&message, "top_p", "FP32", BytesOf(0.25f));
  AddRaw(&message, "top_k", "UINT32", BytesOf<uint32_t>(5), {1, 1});
  AddRaw(&message, "seed", "INT64", BytesOf<int64_t>(9), {1, 1, 1, 1});
  AddRaw(&message, "ignore_eos", "BOOL", std::string(1, '\1'));
  AddRaw(&message, "stop", "BYTES", RawBytes("x") + RawBytes("yz") + RawBytes("!"), {1, 3});
  const ClientRequest request = Good(message);
  EXPECT_EQ(std::get<std::string>(request.prompt), "Hi");
  EXPECT_EQ(request.max_tokens, 300);
  EXPECT_EQ(request.min_tokens, -2);  // the engine's to refuse
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_EQ(request.sampling.top_p, 0.25f);
  EXPECT_EQ(request.sampling.top_k, 5);
  EXPECT_EQ(request.seed, 9u);
  EXPECT_TRUE(request.ignore_eos);
  EXPECT_THAT(request.stop, ElementsAre("x", "yz", "!"));
}

TEST(OpenInference, ParametersAreSettingsToo) {
  Message message = Typed();
  auto& parameters = *message.mutable_parameters();
  parameters["max_tokens"].set_int64_param(9);
  parameters["temperature"].set_int64_param(0);
  parameters["top_p"].set_double_param(0.75);
  parameters["seed"].set_uint64_param(11);
  parameters["stop"].set_string_param("end");
  parameters["stream"].set_bool_param(false);
  parameters["priority"].set_uint64_param(4);
  parameters["somebody_else's"].set_string_param("whatever");
  parameters["timeout"].set_int64_param(2'000'000);
  const absl::Time now = absl::Now();
  const ClientRequest request = Good(message, InferMethod::kStreamInfer);
  EXPECT_EQ(request.max_tokens, 9);
  EXPECT_EQ(request.sampling.temperature, 0.0f);
  EXPECT_EQ(request.sampling.top_p, 0.75f);
  EXPECT_EQ(request.seed, 11u);
  EXPECT_THAT(request.stop, ElementsAre("end"));
  EXPECT_FALSE(request.stream);
  EXPECT_EQ(request.priority, 4);
  EXPECT_GE(request.deadline, now + absl::Seconds(2));
  EXPECT_LE(request.deadline, absl::Now() + absl::Seconds(2));
  EXPECT_TRUE(Good(Typed(), InferMethod::kStreamInfer).stream);
}

TEST(OpenInference, A25_InputsThatAreMissingTwiceOrUnknown) {
  ExpectRefused(Message(), "text_input: must be an input");
  Message message = Typed();
  AddInput(&message, "text_input", "BYTES")->mutable_contents()->add_bytes_contents("Hi");
  ExpectRefused(message, "inputs[1].name: must be given once; got \"text_input\"");
  message = Typed();
  AddInput(&message, "Text_Input", "BYTES")->mutable_contents()->add_bytes_contents("Hi");
  ExpectRefused(message, "inputs[1].name: must be that of an input in ModelMetadata");
  message = Typed();
  AddInput(&message, "max_tokens", "INT32")->mutable_contents()->add_int_contents(7);
  (*message.mutable_parameters())["max_tokens"].set_int64_param(7);
  ExpectRefused(message, "parameters.max_tokens: must not be given as an input too");
  message = Typed();
  for (int i = 0; i < 10000; ++i) *message.add_inputs() = message.inputs(0);
  ExpectRefused(message, "inputs: must have at most 64 entries; got 10001");
}

TEST(OpenInference, A25_WrongDatatypes) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "inputs[0].datatype: must be BOOL, INT8"},
      {"bytes", "inputs[0].datatype: must be"},
      {"FP16", "inputs[0].datatype: must be"},
      {"BF16", "inputs[0].datatype: must be"},
      {"STRING", "inputs[0].datatype: must be"},
      // The contents are of BYTES:
      {"INT32", "inputs[0].contents: must have 1 INT32; got 0"},
      {"UINT64", "inputs[0].contents: must have 1 UINT64; got 0"},
      {"FP32", "inputs[0].contents: must have 1 FP32; got 0"},
      {"BOOL", "inputs[0].contents: must have 1 BOOL; got 0"},
  };
  for (const auto& [datatype, begins] : cases) {
    Message message = Typed();
    message.mutable_inputs(0)->set_datatype(datatype);
    ExpectRefused(message, begins);
  }
  // Of a kind that the name does not take.
  Message message = Raw();
  AddRaw(&message, "max_tokens", "FP32", BytesOf(5.0f));
  ExpectRefused(message, "max_tokens: must be an integer; got 5");
  message = Raw();
  AddRaw(&message, "max_tokens", "BYTES", RawBytes("5"));
  ExpectRefused(message, "max_tokens: must be an integer; got \"5\"");
  message = Raw();
  AddRaw(&message, "temperature", "BYTES", RawBytes("0"));
  ExpectRefused(message, "temperature: must be a number; got \"0\"");
  message = Raw();
  AddRaw(&message, "stream", "INT32", BytesOf<int32_t>(0));
  ExpectRefused(message, "stream: must be BOOL; got 0");
  message = Raw();
  AddRaw(&message, "stop", "INT32", BytesOf<int32_t>(0));
  ExpectRefused(message, "stop: must be BYTES; got 0");
  message = Message();
  AddRaw(&message, "text_input", "INT32", BytesOf<int32_t>(0));
  ExpectRefused(message, "text_input: must be BYTES; got 0");
}

TEST(OpenInference, V30_ShapesThatLie) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  const std::pair<std::vector<int64_t>, const char*> cases[] = {
      {{}, "inputs[0].shape: must have 1 to 4 dimensions; got 0"},
      {{0}, "inputs[0].shape: must have dimensions in [1, 16]; got 0"},
      {{-1}, "inputs[0].shape: must have dimensions in [1, 16]; got -1"},
      {{kMax}, "inputs[0].shape: must have dimensions in [1, 16]"},
      {{kMin}, "inputs[0].shape: must have dimensions in [1, 16]"},
      {{1, 1, 1, 1, 1}, "inputs[0].shape: must have 1 to 4 dimensions; got 5"},
      {{int64_t{1} << 32, int64_t{1} << 32}, "inputs[0].shape: must have dimensions in [1, 16]"},
      {{16, 16, 16, 16}, "inputs[0].shape: must have at most 16 elements; got 65536"},
      {{1, 0}, "inputs[0].shape: must have dimensions in [1, 16]; got 0"},
      {{2}, "inputs[0].contents: must have 2 BYTES; got 1"},
      {{1, 2}, "inputs[0].contents: must have 2 BYTES; got 1"},
  };
  for (const auto& [shape, begins] : cases) {
    Message message = Typed();
    message.mutable_inputs(0)->mutable_shape()->Assign(shape.begin(), shape.end());
    ExpectRefused(message, begins);
  }
  Message message = Typed();
  message.mutable_inputs(0)->mutable_contents()->add_bytes_contents("more");
  ExpectRefused(message, "inputs[0].contents: must have 1 BYTES; got 2");
  message.mutable_inputs(0)->set_shape(0, 2);
  ExpectRefused(message, "text_input: must have 1 element; got 2");
  message = Typed();
  message.mutable_inputs(0)->mutable_contents()->add_int_contents(1);
  ExpectRefused(message, "inputs[0].contents: must have elements of BYTES only; got 2");
  message = Typed();
  message.mutable_inputs(0)->clear_contents();
  ExpectRefused(message, "inputs[0].contents: must have 1 BYTES; got 0");
}

TEST(OpenInference, V30_RawContentsThatLie) {
  const std::string cases[] = {
      "",
      std::string(3, '\0'),
      std::string("\3\0\0\0Hi", 6),
      std::string("\1\0\0\0Hi", 6),
      std::string("\2\0\0\0Hi\0", 7),
      std::string("\xff\xff\xff\xffHi", 6),
      std::string("\2\0\0\0Hi\2\0\0\0Hi", 12),
  };
  for (const std::string& raw : cases) {
    Message message = Raw();
    message.set_raw_input_contents(0, raw);
    ExpectRefused(message,
                  absl::StrCat("inputs[0]: must have the bytes of 1 BYTES; got ", raw.size()));
  }
  for (const std::string& raw : {std::string(3, 'x'), std::string(5, 'x'), std::string()}) {
    Message message = Raw();
    AddRaw(&message, "max_tokens", "INT32", raw);
    ExpectRefused(message,
                  absl::StrCat("inputs[1]: must have the bytes of 1 INT32; got ", raw.size()));
  }
  Message message = Raw();
  AddRaw(&message, "ignore_eos", "BOOL", "\2");
  ExpectRefused(message, "inputs[1]: must have bools of 0 or 1; got 2");
  message = Raw();
  message.add_raw_input_contents("more");
  ExpectRefused(message, "raw_input_contents: must have as many entries as inputs (1); got 2");
  message = Raw();
  message.mutable_inputs(0)->mutable_contents()->add_bytes_contents("Hi");
  ExpectRefused(message, "inputs[0].contents: must be empty beside raw_input_contents; got 1");
}

TEST(OpenInference, V35_NumbersOutsideTheirType) {
  Message message = Typed();
  AddInput(&message, "max_tokens", "INT8")->mutable_contents()->add_int_contents(128);
  ExpectRefused(message, "inputs[1]: must be in the range of INT8; got 128");
  message = Typed();
  AddInput(&message, "max_tokens", "UINT16")->mutable_contents()->add_uint_contents(65536);
  ExpectRefused(message, "inputs[1]: must be in the range of UINT16; got 65536");
  message = Typed();
  AddInput(&message, "max_tokens", "UINT64")->mutable_contents()->add_uint64_contents(~0ull);
  ExpectRefused(message, "max_tokens: must be in [");
  message = Typed();
  AddInput(&message, "seed", "INT64")->mutable_contents()->add_int64_contents(-1);
  ExpectRefused(message, "seed: must be in [0, ");
  message = Typed();
  AddInput(&message, "top_k", "INT64")->mutable_contents()->add_int64_contents(1ll << 31);
  ExpectRefused(message, "top_k: must be in [-2147483648, 2147483647]; got 2147483648");
  message = Typed();
  (*message.mutable_parameters())["priority"].set_uint64_param(~0ull);
  ExpectRefused(message, "priority: must be in [");
  message = Typed();
  (*message.mutable_parameters())["timeout"].set_int64_param(-1);
  ExpectRefused(message, "timeout: must be in [0, ");
  // Not ours to judge, but it must come through as what it is.
  message = Typed();
  (*message.mutable_parameters())["temperature"].set_double_param(1e300);
  EXPECT_TRUE(std::isinf(Good(message).sampling.temperature));
}

TEST(OpenInference, V30_OutputsAndParameters) {
  Message message = Typed();
  message.add_outputs()->set_name("text_output");
  Good(message);
  message.add_outputs()->set_name("text_output");
  ExpectRefused(message, "outputs: must have at most 1 entry; got 2");
  message = Typed();
  message.add_outputs()->set_name("logits");
  ExpectRefused(message, "outputs[0].name: must be text_output; got \"logits\"");
  for (int i = 0; i < 10000; ++i) message.add_outputs()->set_name(absl::StrCat("o", i));
  ExpectRefused(message, "outputs: must have at most 64 entries; got 10001");
  message = Typed();
  for (int i = 0; i < 65; ++i) {
    (*message.mutable_parameters())[absl::StrCat("p", i)].set_bool_param(true);
  }
  ExpectRefused(message, "parameters: must have at most 64 entries; got 65");
  message = Typed();
  (*message.mutable_parameters())["p"];
  ExpectRefused(message, "parameters: must have a value each; got \"p\"");
  message = Typed();
  (*message.mutable_parameters())["stream"].set_bool_param(true);
  ExpectRefused(message, "stream: must be false where a request has one response");
  message = Typed();
  message.set_model_version("2");
  ExpectRefused(message, "model_version: must be", absl::StatusCode::kNotFound);
  for (const char* other : {"n", "logprobs", "json_schema", "sequence_id"}) {
    message = Typed();
    (*message.mutable_parameters())[other].set_int64_param(1);
    ExpectRefused(message, absl::StrCat(other, ": must be absent"),
                  absl::StatusCode::kUnimplemented);
  }
}

TEST(OpenInference, ResponsesHaveTheFormOfTheirRequests) {
  const RandomServer server;
  AnswerDelta delta;
  delta.text = "Hello";
  inference::ModelInferResponse raw;
  ToMessage(delta, EchoOf(Raw()), server.model, Finality::kUnsaid, &raw);
  EXPECT_EQ(raw.model_name(), "random");
  EXPECT_EQ(raw.model_version(), "1");
  ASSERT_EQ(raw.outputs_size(), 1);
  EXPECT_EQ(raw.outputs(0).name(), "text_output");
  EXPECT_EQ(raw.outputs(0).datatype(), "BYTES");
  EXPECT_THAT(raw.outputs(0).shape(), ElementsAre(1));
  ASSERT_EQ(raw.raw_output_contents_size(), 1);
  EXPECT_EQ(raw.raw_output_contents(0), std::string("\5\0\0\0Hello", 9));
  EXPECT_EQ(raw.parameters_size(), 0);

  delta.finish = FinishReason::kLength;
  delta.prompt_tokens = 2;
  delta.completion_tokens = 3;
  inference::ModelInferResponse typed;
  ToMessage(delta, EchoOf(Typed()), server.model, Finality::kFinal, &typed);
  EXPECT_EQ(typed.id(), "id 1");
  EXPECT_EQ(typed.raw_output_contents_size(), 0);
  EXPECT_THAT(typed.outputs(0).contents().bytes_contents(), ElementsAre("Hello"));
  EXPECT_TRUE(typed.parameters().at("triton_final_response").bool_param());
  EXPECT_EQ(typed.parameters().at("finish_reason").string_param(), "length");
  EXPECT_EQ(typed.parameters().at("prompt_tokens").int64_param(), 2);
  EXPECT_EQ(typed.parameters().at("completion_tokens").int64_param(), 3);
}

TEST(OpenInference, MetadataListsWhatIsRead) {
  const RandomServer server;
  inference::ModelMetadataResponse metadata;
  ToMessage(server.model, &metadata);
  EXPECT_EQ(metadata.name(), "random");
  EXPECT_THAT(metadata.versions(), ElementsAre("1"));
  EXPECT_EQ(metadata.inputs(0).name(), "text_input");
  ASSERT_EQ(metadata.outputs_size(), 1);
  EXPECT_EQ(metadata.outputs(0).name(), "text_output");
  // Each input that is listed can be given, in the datatype that is listed.
  for (int i = 1; i < metadata.inputs_size(); ++i) {
    Message message = Raw();
    const auto& input = metadata.inputs(i);
    const bool is_text = input.datatype() == "BYTES";
    const int bytes = input.datatype() == "BOOL" ? 1 : input.datatype() == "UINT64" ? 8 : 4;
    AddRaw(&message, input.name(), input.datatype(),
           is_text ? RawBytes("x") : std::string(bytes, '\0'));
    Good(message);
  }
  EXPECT_TRUE(CheckModel(server.model, "random", "").ok());
  EXPECT_TRUE(CheckModel(server.model, "random", "1").ok());
  EXPECT_TRUE(absl::IsNotFound(CheckModel(server.model, "random", "2")));
  EXPECT_TRUE(absl::IsNotFound(CheckModel(server.model, "", "")));
}

}  // namespace
}  // namespace pregate
