// The bodies of /v1/embeddings and /v1/rerank, in and out.
#include "server/openai/encoding_requests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "absl/strings/escaping.h"

namespace pregate {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::StartsWith;
using Ids = std::vector<int32_t>;

EmbeddingsRequest Embeddings(const char* body) {
  absl::StatusOr<EmbeddingsRequest> request = ReadEmbeddingsRequest(json::parse(body));
  EXPECT_TRUE(request.ok()) << body << ": " << request.status();
  return request.ok() ? *std::move(request) : EmbeddingsRequest();
}

TEST(Embeddings, InputsOfEveryKind) {
  EXPECT_THAT(Embeddings(R"({"input":"a"})").ask.inputs, ElementsAre(TextOrIds("a")));
  EXPECT_THAT(Embeddings(R"({"input":["a","b"]})").ask.inputs,
              ElementsAre(TextOrIds("a"), TextOrIds("b")));
  EXPECT_THAT(Embeddings(R"({"input":[1,2]})").ask.inputs, ElementsAre(TextOrIds(Ids{1, 2})));
  EXPECT_THAT(Embeddings(R"({"input":[[1,2],[3]]})").ask.inputs,
              ElementsAre(TextOrIds(Ids{1, 2}), TextOrIds(Ids{3})));
}

TEST(Embeddings, FieldsAndTheirDefaults) {
  const EmbeddingsRequest plain = Embeddings(R"({"input":"a","user":"u","anything":1})");
  EXPECT_FALSE(plain.base64);
  EXPECT_TRUE(plain.ask.normalize);
  EXPECT_FALSE(plain.ask.truncate);
  EXPECT_EQ(plain.ask.dimensions, std::nullopt);
  EXPECT_EQ(plain.ask.kind, InputKind::kPlain);
  EXPECT_EQ(plain.ask.field, "input");
  const EmbeddingsRequest full = Embeddings(
      R"({"input":"a","model":"m","encoding_format":"base64","dimensions":64,"normalize":false,
          "truncate_prompt_tokens":-1,"input_type":"query","priority":3,"cache_salt":"t"})");
  EXPECT_TRUE(full.base64);
  EXPECT_FALSE(full.ask.normalize);
  EXPECT_TRUE(full.ask.truncate);
  EXPECT_EQ(full.ask.dimensions, 64);
  EXPECT_EQ(full.ask.kind, InputKind::kQuery);
  EXPECT_EQ(full.ask.caller.model, "m");
  EXPECT_EQ(full.ask.caller.tenant, "t");
  EXPECT_EQ(full.ask.caller.priority, 3);
  EXPECT_EQ(Embeddings(R"({"input":"a","input_type":"search_document"})").ask.kind,
            InputKind::kPassage);
}

TEST(Embeddings, WhatIsWrongIsNamed) {
  for (const auto& [body, begin] : std::vector<std::pair<std::string, std::string>>{
           {"{}", "input: must be a string, a list"},
           {R"({"input":[]})", "input: must be a string, a list"},
           {R"({"input":{}})", "input: must be a string, a list"},
           {R"({"input":["a",1]})", "input[1]: must be a string or a list of token ids"},
           {R"({"input":[[1],["a"]]})", "input[1][0]: must be"},
           {R"({"input":[1,-1]})", "input[1]: must be"},
           {R"({"input":"a","encoding_format":"int8"})",
            "encoding_format: must be one of float, base64; got \"int8\""},
           {R"({"input":"a","input_type":"x"})", "input_type: must be one of query, passage"},
           {R"({"input":"a","dimensions":"64"})", "dimensions: must be"},
           {R"({"input":"a","model":5})", "model: must be"}}) {
    const absl::Status status = ReadEmbeddingsRequest(json::parse(body)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << body;
    EXPECT_THAT(std::string(status.message()), StartsWith(begin)) << body;
  }
  json many = {{"input", std::vector<std::string>(2049, "a")}};
  EXPECT_EQ(ReadEmbeddingsRequest(many).status().message(),
            "input: must have at most 2048 entries; got 2049");
}

TEST(Embeddings, WhatIsNotServedIsNamed) {
  for (const char* body :
       {R"({"input":"a","truncate_prompt_tokens":5})", R"({"input":"a","messages":[]})",
        R"({"input":"a","embed_dtype":"x"})"}) {
    EXPECT_EQ(ReadEmbeddingsRequest(json::parse(body)).status().code(),
              absl::StatusCode::kUnimplemented)
        << body;
  }
}

TEST(Embeddings, AnswersAreReadByJsonAndByBase64) {
  EncodingResult result;
  result.vectors = {{0.1f, -1e-30f, 16777216.0f},
                    {std::numeric_limits<float>::max(), 0.0f, -1.0f / 3}};
  result.tokens = 7;
  const json plain = json::parse(EmbeddingsAnswer("a \"model\"", false, result));
  EXPECT_EQ(plain["object"], "list");
  EXPECT_EQ(plain["model"], "a \"model\"");
  EXPECT_EQ(plain["usage"], (json{{"prompt_tokens", 7}, {"total_tokens", 7}}));
  const json packed = json::parse(EmbeddingsAnswer("m", true, result));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(plain["data"][i]["index"], i);
    EXPECT_EQ(plain["data"][i]["object"], "embedding");
    EXPECT_EQ(plain["data"][i]["embedding"].get<std::vector<float>>(), result.vectors[i]);
    std::string bytes;
    ASSERT_TRUE(absl::Base64Unescape(packed["data"][i]["embedding"].get<std::string>(), &bytes));
    ASSERT_EQ(bytes.size(), 12u);
    EXPECT_EQ(std::memcmp(bytes.data(), result.vectors[i].data(), 12), 0);
  }
}

RerankRequest Rerank(const char* body) {
  absl::StatusOr<RerankRequest> request = ReadRerankRequest(json::parse(body));
  EXPECT_TRUE(request.ok()) << body << ": " << request.status();
  return request.ok() ? *std::move(request) : RerankRequest();
}

TEST(Rerank, FieldsAndTheirDefaults) {
  const RerankRequest plain = Rerank(R"({"query":"q","documents":["a",{"text":"b","id":1}]})");
  EXPECT_EQ(plain.ask.query, "q");
  EXPECT_THAT(plain.ask.documents, ElementsAre("a", "b"));
  EXPECT_TRUE(plain.ask.sigmoid);
  EXPECT_EQ(plain.top_n, 0);
  EXPECT_FALSE(plain.return_documents);
  const RerankRequest full = Rerank(
      R"({"query":"q","documents":["a"],"model":"m","top_n":3,"return_documents":true,
          "raw_scores":true,"truncate":true})");
  EXPECT_EQ(full.ask.caller.model, "m");
  EXPECT_FALSE(full.ask.sigmoid);
  EXPECT_TRUE(full.ask.truncate);
  EXPECT_EQ(full.top_n, 3);
  EXPECT_TRUE(full.return_documents);
}

TEST(Rerank, WhatIsWrongIsNamed) {
  for (const auto& [body, begin] : std::vector<std::pair<std::string, std::string>>{
           {R"({"query":"q"})", "documents: must be a list"},
           {R"({"query":"q","documents":"a"})", "documents: must be a list"},
           {R"({"query":"q","documents":["a",5]})", "documents[1]: must be a string or an object"},
           {R"({"query":"q","documents":[{"title":"a"}]})", "documents[0]: must be a string"},
           {R"({"query":["q"],"documents":["a"]})", "query: must be"},
           {R"({"query":"q","documents":["a"],"top_n":0})", "top_n: must be >= 1; got 0"}}) {
    const absl::Status status = ReadRerankRequest(json::parse(body)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << body;
    EXPECT_THAT(std::string(status.message()), StartsWith(begin)) << body;
  }
  EXPECT_EQ(ReadRerankRequest(json::parse(R"({"query":"q","documents":["a"],"rank_fields":["x"]})"))
                .status()
                .code(),
            absl::StatusCode::kUnimplemented);
}

TEST(Rerank, AnswersBeginWithTheBest) {
  EncodingResult result;
  result.scores = {0.25f, 0.5f, -1.0f, 0.5f};
  result.tokens = 9;
  const json all = json::parse(RerankAnswer("rerank-1", "m", 0, {}, result));
  EXPECT_EQ(all["id"], "rerank-1");
  EXPECT_EQ(all["usage"]["total_tokens"], 9);
  std::vector<int> order;
  for (const json& one : all["results"]) {
    order.push_back(one["index"]);
    EXPECT_FALSE(one.contains("document"));
  }
  EXPECT_THAT(order, ElementsAre(1, 3, 0, 2));  // equal scores keep their order
  EXPECT_EQ(all["results"][3]["relevance_score"], -1.0);
  const json two = json::parse(RerankAnswer("r", "m", 2, {"a", "b", "c", "\"d\n"}, result));
  ASSERT_EQ(two["results"].size(), 2u);
  EXPECT_EQ(two["results"][1]["document"]["text"], "\"d\n");
  EXPECT_EQ(json::parse(RerankAnswer("r", "m", 9, {}, result))["results"].size(), 4u);
}

}  // namespace
}  // namespace pregate
