// Bodies of the Open Inference Protocol over HTTP: what is read of them, and every lie.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/open_inference/json_form.h"

namespace pregate {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

json Input(const std::string& name, const std::string& datatype, json data,
           std::vector<int64_t> shape = {1}) {
  return {{"name", name}, {"datatype", datatype}, {"shape", shape}, {"data", std::move(data)}};
}

json Body(std::vector<json> inputs = {}) {
  inputs.insert(inputs.begin(), Input("text_input", "BYTES", json::array({"Hi"})));
  return {{"id", "id 1"}, {"inputs", inputs}};
}

absl::StatusOr<ClientRequest> Read(const std::string& body, const std::string& json_length = "") {
  absl::StatusOr<JsonRequest> read = ReadInferBody(body, json_length);
  if (!read.ok()) return read.status();
  return ToClientRequest(std::move(read->request), InferMethod::kInfer);
}

ClientRequest Good(const json& body) {
  absl::StatusOr<ClientRequest> request = Read(body.dump());
  EXPECT_TRUE(request.ok()) << request.status();
  return request.ok() ? *std::move(request) : ClientRequest();
}

void ExpectRefused(const std::string& body, const std::string& begins,
                   const std::string& json_length = "") {
  const absl::Status status = Read(body, json_length).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << body;
  EXPECT_THAT(std::string(status.message()), StartsWith(begins)) << body;
  EXPECT_THAT(std::string(status.message()), HasSubstr("; got ")) << body;
}
void ExpectRefused(const json& body, const std::string& begins) {
  ExpectRefused(body.dump(), begins);
}

TEST(OpenInferenceJson, TensorsOfEveryKind) {
  json body = Body({Input("max_tokens", "INT32", {7}), Input("temperature", "FP32", {0.5}),
                    Input("top_p", "FP64", {1}), Input("seed", "UINT64", {~uint64_t{0}}),
                    Input("ignore_eos", "BOOL", {true}),
                    Input("top_k", "INT8", json::array({json::array({5})}), {1, 1}),
                    Input("stop", "BYTES", {"a", "b"}, {2})});
  body["parameters"] = {{"min_tokens", 2}, {"priority", 3}, {"whatever", "x"}};
  const ClientRequest request = Good(body);
  EXPECT_EQ(std::get<std::string>(request.prompt), "Hi");
  EXPECT_EQ(request.request_id, "id 1");
  EXPECT_EQ(request.max_tokens, 7);
  EXPECT_EQ(request.min_tokens, 2);
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_EQ(request.sampling.top_p, 1.0f);
  EXPECT_EQ(request.sampling.top_k, 5);
  EXPECT_EQ(request.seed, ~uint64_t{0});
  EXPECT_TRUE(request.ignore_eos);
  EXPECT_THAT(request.stop, ElementsAre("a", "b"));
  EXPECT_EQ(request.priority, 3);
}

// A body with its tensors behind the JSON.
struct Binary {
  json document;
  std::string bytes;
  std::string whole() const { return document.dump() + bytes; }
  std::string length() const { return std::to_string(document.dump().size()); }
};

Binary MakeBinary(int64_t text_size = 6) {
  Binary made;
  json text = Input("text_input", "BYTES", nullptr);
  text["parameters"] = {{"binary_data_size", text_size}};
  json max_tokens = Input("max_tokens", "INT32", nullptr);
  max_tokens["parameters"] = {{"binary_data_size", 4}};
  made.document = {{"inputs", {text, max_tokens}}};
  made.bytes = RawBytes("Hi") + std::string("\x09\0\0\0", 4);
  return made;
}

TEST(OpenInferenceJson, TensorsBehindTheJson) {
  const Binary body = MakeBinary();
  const absl::StatusOr<ClientRequest> request = Read(body.whole(), body.length());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(std::get<std::string>(request->prompt), "Hi");
  EXPECT_EQ(request->max_tokens, 9);
}

TEST(OpenInferenceJson, V30_BytesThatLie) {
  const Binary body = MakeBinary();
  const std::string header = "inference-header-content-length: must be in [0, ";
  for (const std::string bad : {"-1", "x", "1e3", "99999999999999999999", "1000000"}) {
    ExpectRefused(body.whole(), header, bad);
  }
  ExpectRefused(body.whole(), "body: must be", "5");
  ExpectRefused(body.whole(), "body: must be", "");  // all of it would have to be JSON
  ExpectRefused(body.whole() + "x", "body: must have no bytes behind the last tensor; got 1",
                body.length());
  ExpectRefused(body.document.dump(), "inputs[0].parameters.binary_data_size: must be in [0, 0]",
                body.length());
  for (const int64_t size : {int64_t{-1}, int64_t{11}, int64_t{1} << 62}) {
    const Binary lie = MakeBinary(size);
    ExpectRefused(lie.whole(), "inputs[0].parameters.binary_data_size: must be in [0, 10]",
                  lie.length());
  }
  for (const int64_t size : {0, 3, 5, 7}) {
    const Binary lie = MakeBinary(size);
    ExpectRefused(lie.whole(), "inputs[0]: must have the bytes of 1 BYTES", lie.length());
  }
  Binary both = MakeBinary();
  both.document["inputs"][0]["data"] = {"Hi"};
  ExpectRefused(both.whole(), "inputs[0].data: must be absent beside binary_data_size",
                both.length());
}

TEST(OpenInferenceJson, A25_TensorsThatLie) {
  const std::pair<json, const char*> cases[] = {
      {Input("max_tokens", "INT32", {1.5}), "inputs[1].data: must be of INT32; got \"number\""},
      {Input("max_tokens", "INT32", {"5"}), "inputs[1].data: must be of INT32; got \"string\""},
      {Input("max_tokens", "INT32", {true}), "inputs[1].data: must be of INT32; got \"boolean\""},
      {Input("max_tokens", "INT32", {nullptr}), "inputs[1].data: must be a bool, a number or"},
      {Input("max_tokens", "INT32", json::array({json::object()})),
       "inputs[1].data: must be a bool, a number or"},
      {Input("max_tokens", "INT32", {int64_t{1} << 31}),
       "inputs[1].data: must be in the range of INT32; got 2147483648"},
      {Input("max_tokens", "UINT8", {-1}), "inputs[1].data: must be in the range of UINT8; got -1"},
      {Input("seed", "UINT64", {-1}), "inputs[1].data: must be in the range of UINT64; got -1"},
      {Input("max_tokens", "INT32", json::array()), "inputs[1].data: must have 1 elements; got 0"},
      {Input("max_tokens", "INT32", {1, 2}), "inputs[1].data: must have 1 elements; got 2"},
      {Input("max_tokens", "INT32", nullptr), "inputs[1].data: must be given; got none"},
      {Input("max_tokens", "FP16", {1}), "inputs[1].datatype: must be BOOL"},
      {Input("max_tokens", "INT32", {1}, {}), "inputs[1].shape: must have 1 to 4 dimensions"},
      {Input("max_tokens", "INT32", {1}, {0}), "inputs[1].shape: must have dimensions in [1, 16]"},
      {Input("max_tokens", "INT32", {1}, {-1}), "inputs[1].shape: must have dimensions in"},
      {Input("stop", "BYTES", {"a"}, {INT64_MAX}), "inputs[1].shape: must have dimensions in"},
      {Input("stop", "BYTES", {"a"}, {16, 16}), "inputs[1].shape: must have at most 16 elements"},
      {Input("stop", "BYTES", json(std::vector<std::string>(17, "a")), {16}),
       "inputs[1].data: must have at most 16 entries; got 17"},
      {Input("stop", "BYTES", json::parse("[[[[[1]]]]]"), {1}),
       "inputs[1].data: must be arrays of the shape"},
      {Input("another", "BYTES", {"a"}), "inputs[1].name: must be that of an input"},
      {json("x"), "inputs[1]: must be an object; got \"string\""},
      {json({{"name", 5}}), "inputs[1].name: must be a string; got \"number\""},
      {json({{"name", "stop"}, {"datatype", "BYTES"}, {"shape", {1.5}}}),
       "inputs[1].shape: must be of integers"},
  };
  for (const auto& [input, begins] : cases) ExpectRefused(Body({input}), begins);
}

TEST(OpenInferenceJson, BodiesThatLie) {
  ExpectRefused(std::string(""), "body: must be");
  ExpectRefused(std::string("[]"), "body: must be a JSON object");
  ExpectRefused(std::string("{}"), "text_input: must be an input");
  json body = Body();
  body["inputs"] = "x";
  ExpectRefused(body, "inputs: must be an array");
  body = Body(std::vector<json>(64, Input("stop", "BYTES", {"a"})));
  ExpectRefused(body, "inputs: must have at most 64 entries; got 65");
  body = Body();
  body["id"] = 5;
  ExpectRefused(body, "id: must be a string; got \"number\"");
  body = Body();
  body["parameters"] = {1};
  ExpectRefused(body, "parameters: must be an object");
  body["parameters"] = {{"seed", {1}}};
  ExpectRefused(body, "parameters.seed: must be a bool, a number or a string");
  body = Body();
  body["outputs"] = {{{"name", "logits"}}};
  ExpectRefused(body, "outputs[0].name: must be text_output");
  body["outputs"] = {5};
  ExpectRefused(body, "outputs[0]: must be an object");
}

TEST(OpenInferenceJson, ResponsesAsAskedFor) {
  auto binary = [](const json& changes) {
    json body = Body();
    body.update(changes);
    return ReadInferBody(body.dump(), "")->binary;
  };
  EXPECT_FALSE(binary(json::object()));
  EXPECT_TRUE(binary({{"parameters", {{"binary_data_output", true}}}}));
  const json text_output = {{"name", "text_output"}, {"parameters", {{"binary_data", true}}}};
  EXPECT_TRUE(binary({{"outputs", {text_output}}}));

  AnswerDelta delta;
  delta.text = "Grüße";
  delta.finish = FinishReason::kStop;
  delta.prompt_tokens = 2;
  delta.completion_tokens = 3;
  const JsonResponse plain = InferResponse(delta, "id 1", "smollm2", false);
  EXPECT_EQ(plain.bytes, "");
  EXPECT_EQ(json::parse(plain.json), json::parse(R"({
    "model_name": "smollm2", "model_version": "1", "id": "id 1",
    "parameters": {"finish_reason": "stop", "prompt_tokens": 2, "completion_tokens": 3},
    "outputs": [{"name": "text_output", "datatype": "BYTES", "shape": [1], "data": ["Grüße"]}]})"));
  const JsonResponse bytes = InferResponse(delta, "", "smollm2", true);
  EXPECT_EQ(bytes.bytes, RawBytes("Grüße"));
  const json output = json::parse(bytes.json)["outputs"][0];
  EXPECT_EQ(output["parameters"]["binary_data_size"], 4 + 7);
  EXPECT_FALSE(output.contains("data"));
}

TEST(OpenInferenceJson, GenerateTakesInputsByName) {
  const absl::StatusOr<InferRequest> read = ReadGenerateBody(
      R"({"id": "7", "text_input": "Hi", "max_tokens": 9, "temperature": 0, "stop": ["a", "b"],
          "whatever": [1, 2], "parameters": {"top_k": 5}})");
  ASSERT_TRUE(read.ok()) << read.status();
  const absl::StatusOr<ClientRequest> request = ToClientRequest(*read, InferMethod::kStreamInfer);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(std::get<std::string>(request->prompt), "Hi");
  EXPECT_EQ(request->request_id, "7");
  EXPECT_EQ(request->max_tokens, 9);
  EXPECT_EQ(request->sampling.temperature, 0.0f);
  EXPECT_EQ(request->sampling.top_k, 5);
  EXPECT_THAT(request->stop, ElementsAre("a", "b"));

  const std::pair<const char*, const char*> cases[] = {
      {R"({"text_input": 5})", "text_input: must be BYTES; got 5"},
      {R"({"text_input": ["a", "b"]})", "text_input: must have 1 element; got 2"},
      {R"({"text_input": []})", "text_input: must have 1 element; got 0"},
      {R"({"text_input": {"a": 1}})", "text_input: must be a bool, a number or a string"},
      {R"({"text_input": "a", "max_tokens": 1.5})", "max_tokens: must be an integer; got 1.5"},
      {R"({"text_input": "a", "max_tokens": "5"})", "max_tokens: must be an integer; got \"5\""},
      {R"({"text_input": "a", "max_tokens": 99999999999999999999999})", "max_tokens: must be an"},
      {R"({"text_input": "a", "timeout": [1, 2]})", "timeout: must be one number; got 2"},
      {R"({"max_tokens": 5})", "text_input: must be an input; got none"},
  };
  for (const auto& [body, begins] : cases) {
    absl::StatusOr<InferRequest> bad = ReadGenerateBody(body);
    const absl::Status status =
        bad.ok() ? ToClientRequest(*std::move(bad), InferMethod::kInfer).status() : bad.status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << body;
    EXPECT_THAT(std::string(status.message()), StartsWith(begins)) << body;
  }
  EXPECT_TRUE(absl::IsUnimplemented(
      ToClientRequest(*ReadGenerateBody(R"({"text_input": "a", "tools": [1, 2]})"),
                      InferMethod::kInfer)
          .status()));
}

}  // namespace
}  // namespace pregate
