// The core of embeddings and scores around an engine whose values are a formula: what it is asked,
// what becomes of what it says, and how calls end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "server/embedding/embed_job.h"
#include "server/embedding/encoding_call.h"
#include "server/embedding/score_job.h"
#include "server/embedding/vectors.h"
#include "tests/server/fake_encoder.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Ids = std::vector<int32_t>;

constexpr int32_t kCls = FakeEncoder::kCls, kSep = FakeEncoder::kSep;

Ids TextIds(const std::string& text) {
  Ids ids = {kCls};
  for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
  ids.push_back(kSep);
  return ids;
}

Ids PairIds(const std::string& first, const std::string& second) {
  Ids ids = TextIds(first);
  for (const char byte : second) ids.push_back(static_cast<unsigned char>(byte));
  ids.push_back(kSep);
  return ids;
}

class EmbeddingTest : public ::testing::Test {
 protected:
  void Serve(bool scores, SentencePrompts prompts = {}) {
    engine_ = std::make_unique<FakeEncoder>(scores);
    metrics_ = std::make_unique<Metrics>(engine_.get(), "fake", MetricsCompat::kNone);
    model_ = std::make_unique<ServedModel>(engine_.get(), metrics_.get(),
                                           ServedModelOptions{.name = "fake", .prompts = prompts});
  }

  static EmbedAsk Texts(const std::vector<std::string>& texts) {
    EmbedAsk ask;
    for (const std::string& text : texts) ask.inputs.emplace_back(text);
    return ask;
  }
  static ScoreAsk Question(const std::string& query, const std::vector<std::string>& documents) {
    ScoreAsk ask;
    ask.query = query;
    ask.documents = documents;
    ask.sigmoid = false;
    return ask;
  }

  absl::StatusOr<std::shared_ptr<EncodingCall>> Start(absl::StatusOr<EncodingJob> job) {
    return EncodingCall::Start(model_.get(), std::move(job), [this] {
      absl::MutexLock lock(&mutex_);
      awake_ = true;
    });
  }

  absl::StatusOr<EncodingResult> Finish(EncodingCall* call) {
    while (!call->Advance()) {
      absl::MutexLock lock(&mutex_);
      if (!mutex_.AwaitWithTimeout(absl::Condition(&awake_), absl::Seconds(30))) {
        return absl::UnknownError("test: nobody wakes");
      }
      awake_ = false;
    }
    return call->TakeResult();
  }

  absl::StatusOr<EncodingResult> Run(absl::StatusOr<EncodingJob> job) {
    const auto call = Start(std::move(job));
    if (!call.ok()) return call.status();
    return Finish(call->get());
  }
  absl::StatusOr<EncodingResult> Embed(EmbedAsk ask) {
    return Run(PlanEmbedding(*model_, std::move(ask)));
  }
  absl::StatusOr<EncodingResult> Score(ScoreAsk ask) {
    return Run(PlanScoring(*model_, std::move(ask)));
  }

  std::string Refusal(EmbedAsk ask) {
    const absl::Status status = Embed(std::move(ask)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }
  std::string Refusal(ScoreAsk ask) {
    const absl::Status status = Score(std::move(ask)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }

  // What the engine was asked, in order.
  std::vector<Ids> Asked() const {
    std::vector<Ids> asked;
    for (const EncodingRequest& request : engine_->seen()) asked.push_back(request.ids);
    return asked;
  }

  void TearDown() override {
    for (int i = 0; i < 1000 && engine_->waiting() > 0; ++i) absl::SleepFor(absl::Milliseconds(5));
    EXPECT_EQ(engine_->waiting(), 0);
  }

  absl::Mutex mutex_;
  bool awake_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<FakeEncoder> engine_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<ServedModel> model_;
};

TEST_F(EmbeddingTest, EachInputHasItsVectorInOrder) {
  Serve(false);
  EmbedAsk ask = Texts({"abc", "z"});
  ask.inputs.emplace_back(Ids{5, 6});  // ids are taken as they are
  const auto result = Embed(ask);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->vectors,
              ElementsAre(FakeEncoder::VectorOf(TextIds("abc")),
                          FakeEncoder::VectorOf(TextIds("z")), FakeEncoder::VectorOf({5, 6})));
  EXPECT_EQ(result->tokens, 5 + 3 + 2);
  EXPECT_EQ(result->pooling, Pooling::kMean);
  EXPECT_THAT(Asked(), ElementsAre(TextIds("abc"), TextIds("z"), Ids{5, 6}));
}

TEST_F(EmbeddingTest, VectorsAreCutThenNormalised) {
  Serve(false);
  EmbedAsk ask = Texts({"abc"});
  ask.dimensions = 2;
  const std::vector<float> whole = FakeEncoder::VectorOf(TextIds("abc"));
  EXPECT_THAT(Embed(ask)->vectors[0], ElementsAre(whole[0], whole[1]));
  ask.normalize = true;
  const std::vector<float> cut = Embed(ask)->vectors[0];
  const double length = std::hypot(double{whole[0]}, double{whole[1]});
  EXPECT_NEAR(cut[0], whole[0] / length, 1e-6);
  EXPECT_NEAR(cut[1], whole[1] / length, 1e-6);
  ask.dimensions = std::nullopt;
  double sum = 0;
  const auto unit = Embed(ask);
  ASSERT_TRUE(unit.ok()) << unit.status();
  for (const float value : unit->vectors[0]) sum += double{value} * value;
  EXPECT_NEAR(sum, 1, 1e-6);
  ask.dimensions = 5;
  EXPECT_EQ(Refusal(ask), "dimensions: must be in [1, 4]; got 5");
  ask.dimensions = 0;
  EXPECT_EQ(Refusal(ask), "dimensions: must be in [1, 4]; got 0");
}

TEST_F(EmbeddingTest, PrefixesAreOfTheirKind) {
  Serve(false, {.query = "q: ", .passage = "p: ", .plain = ""});
  for (const auto& [kind, prefix] :
       {std::pair(InputKind::kPlain, ""), std::pair(InputKind::kQuery, "q: "),
        std::pair(InputKind::kPassage, "p: ")}) {
    EmbedAsk ask = Texts({"ab"});
    ask.kind = kind;
    ASSERT_TRUE(Embed(ask).ok());
    EXPECT_EQ(Asked().back(), TextIds(std::string(prefix) + "ab"));
    ask.inputs = {Ids{7}};
    ASSERT_TRUE(Embed(ask).ok());
    EXPECT_EQ(Asked().back(), Ids{7});
  }
}

TEST_F(EmbeddingTest, TooLongIsRefusedUnlessTruncated) {
  Serve(false);
  EmbedAsk ask = Texts({"a", std::string(31, 'b')});  // 33 tokens with those around it
  EXPECT_EQ(Refusal(ask), "inputs[1]: must be at most 32 tokens, or truncate be true; got 33");
  EXPECT_TRUE(engine_->seen().empty());  // not even the first was read
  ask.truncate = true;
  ASSERT_TRUE(Embed(ask).ok());
  EXPECT_EQ(Asked().back(), TextIds(std::string(30, 'b')));
  Ids ids(40, 9);
  ids.back() = kSep;
  ask.inputs = {ids};
  ASSERT_TRUE(Embed(ask).ok());
  Ids cut(32, 9);
  cut.back() = kSep;
  EXPECT_EQ(Asked().back(), cut);
}

TEST_F(EmbeddingTest, V14_InputsAreCountedFirst) {
  Serve(false);
  EXPECT_EQ(Refusal(Texts({})), "inputs: must have 1 to 2048 entries; got 0");
  EXPECT_EQ(Refusal(Texts(std::vector<std::string>(2049))),
            "inputs: must have 1 to 2048 entries; got 2049");
  EXPECT_EQ(Refusal(Texts({std::string(5 << 20, 'a'), std::string(5 << 20, 'a')})),
            "inputs: must be at most 8388608 bytes in all; got 10485760");
  EmbedAsk ask;
  ask.inputs = {Ids((2 << 20) + 1)};
  EXPECT_EQ(Refusal(ask), "inputs: must be at most 2097152 ids in all; got 2097153");
  EXPECT_TRUE(engine_->seen().empty());
}

TEST_F(EmbeddingTest, BadInputsNameThemselves) {
  Serve(false);
  EXPECT_EQ(Refusal(Texts({"a", ""})), "inputs[1]: must not be empty; got \"\"");
  EXPECT_THAT(Refusal(Texts({"a\xff"})), StartsWith("inputs[0]: must be valid UTF-8"));
  EmbedAsk ask = Texts({"a"});
  ask.field = "input";
  ask.inputs.emplace_back(Ids{});
  EXPECT_EQ(Refusal(ask), "input[1]: must have at least one token; got 0");
  ask.inputs[1] = Ids{1, 259};
  EXPECT_EQ(Refusal(ask), "input[1].input_tokens[1]: must be < 259; got 259");
  ask.inputs[1] = Ids{1, -1};
  EXPECT_EQ(Refusal(ask), "input[1].input_tokens[1]: must be >= 0; got -1");
  ask = Texts({"a"});
  ask.caller.model = "other";
  EXPECT_EQ(Embed(ask).status().code(), absl::StatusCode::kNotFound);
  ask.caller.model = "fake";
  EXPECT_TRUE(Embed(ask).ok());
}

TEST_F(EmbeddingTest, WhatAModelDoesNotDoIsSaid) {
  Serve(true);
  EXPECT_EQ(Embed(Texts({"a"})).status(),
            absl::UnimplementedError("model: must give embeddings; got \"fake\", which does not"));
  EXPECT_THAT(model_->capabilities(), ElementsAre("tokenize", "score"));
  engine_->model_info.scores = false;
  EXPECT_EQ(Score(Question("a", {"b"})).status(),
            absl::UnimplementedError(
                "model: must give scores or embeddings; got \"fake\", which does not"));
  ClientRequest request;
  request.prompt = "Hello";
  EXPECT_EQ(
      model_->Translate(request).status(),
      absl::UnimplementedError("model: must generate text; got \"fake\", which reads texts only"));
}

TEST_F(EmbeddingTest, LongListsComeAWindowAtATime) {
  Serve(false);
  engine_->SetMaxWaiting(200);
  std::vector<std::string> texts;
  for (int i = 0; i < 2048; ++i) texts.push_back(absl::StrCat("text ", i));
  const auto result = Embed(Texts(texts));
  ASSERT_TRUE(result.ok()) << result.status();
  for (int i = 0; i < 2048; ++i) {
    EXPECT_EQ(result->vectors[i], FakeEncoder::VectorOf(TextIds(texts[i])));
  }
  EXPECT_EQ(engine_->most_waiting(), EncodingCall::kWindow);
}

TEST_F(EmbeddingTest, ADrainingEngineIsWaitedForUntilALongListHasEnded) {
  Serve(false);
  engine_->Hold();
  auto call = Start(PlanEmbedding(*model_, Texts(std::vector<std::string>(500, "abc"))));
  ASSERT_TRUE(call.ok()) << call.status();
  engine_->StartDrain();
  EXPECT_EQ(Embed(Texts({"abc"})).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(model_->WaitUntilIdle(absl::Milliseconds(10)));
  engine_->Release();
  const auto result = Finish(call->get());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->vectors.size(), 500u);
  EXPECT_TRUE(model_->WaitUntilIdle(absl::ZeroDuration()));
}

TEST_F(EmbeddingTest, AQueueThatFillsUpMeanwhileIsWaitedFor) {
  Serve(false);
  engine_->SetMaxWaiting(5);
  const auto result = Embed(Texts(std::vector<std::string>(300, "abc")));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->vectors.size(), 300u);
  EXPECT_EQ(engine_->most_waiting(), 5);
}

TEST_F(EmbeddingTest, AFullQueueRefusesAtOnce) {
  Serve(false);
  engine_->SetMaxWaiting(0);
  EXPECT_EQ(Embed(Texts({"abc"})).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(EmbeddingTest, TheFirstErrorEndsAll) {
  Serve(false);
  std::vector<std::string> texts(200, "never ends?");
  texts[100] = "fails!";
  const auto call = Start(PlanEmbedding(*model_, Texts(texts)));
  ASSERT_TRUE(call.ok()) << call.status();
  const auto result = Finish(call->get());
  EXPECT_EQ(result.status(), absl::InternalError("engine: the step failed: bang"));
  EXPECT_EQ((*call)->record().finish, FinishReason::kError);
  EXPECT_EQ(engine_->seen().size(), static_cast<size_t>(EncodingCall::kWindow));
}

TEST_F(EmbeddingTest, CancellingEndsAll) {
  Serve(false);
  const auto call = Start(PlanEmbedding(*model_, Texts(std::vector<std::string>(300, "a?"))));
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_FALSE((*call)->Advance());
  (*call)->Cancel(absl::CancelledError("call: cancelled by the client"));
  (*call)->Cancel(absl::UnavailableError("too late"));
  EXPECT_EQ(Finish(call->get()).status(), absl::CancelledError("call: cancelled by the client"));
  EXPECT_EQ((*call)->record().finish, FinishReason::kCancelled);
}

TEST_F(EmbeddingTest, DeadlinesEndAll) {
  Serve(false);
  EmbedAsk ask = Texts({"a", "b?"});
  ask.caller.deadline = absl::Now() + absl::Milliseconds(50);
  EXPECT_EQ(Embed(ask).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(EmbeddingTest, CallsAreRecorded) {
  Serve(false);
  const auto call = Start(PlanEmbedding(*model_, Texts({"abc", "d"})));
  ASSERT_TRUE(call.ok());
  ASSERT_TRUE(Finish(call->get()).ok());
  const AnswerRecord& record = (*call)->record();
  EXPECT_EQ(record.finish, FinishReason::kStop);
  EXPECT_EQ(record.prompt_tokens, 8);
  RequestRecord request;
  (*call)->AddTo(&request);
  EXPECT_EQ(request.answers, 2);
  EXPECT_STREQ(request.operation, "embeddings");
  EXPECT_GT(record.end_to_end, absl::ZeroDuration());
}

TEST_F(EmbeddingTest, PairsAreScored) {
  Serve(true);
  ScoreAsk ask = Question("abc", {"xxx", "abcab", "ab"});
  const auto raw = Score(ask);
  ASSERT_TRUE(raw.ok()) << raw.status();
  EXPECT_THAT(raw->scores, ElementsAre(-3, 2, -1));
  EXPECT_THAT(Asked(),
              ElementsAre(PairIds("abc", "xxx"), PairIds("abc", "abcab"), PairIds("abc", "ab")));
  EXPECT_EQ(engine_->seen()[0].second_begin, 5);
  EXPECT_EQ(raw->tokens, 9 + 11 + 8);
  ask.sigmoid = true;
  EXPECT_NEAR(Score(ask)->scores[1], 1 / (1 + std::exp(-2.0)), 1e-6);
}

// 32 tokens, 3 around a pair and 3 of the query leave 26: pieces of 26, each 20 after the one
// before.
TEST_F(EmbeddingTest, LongDocumentsHaveTheScoreOfTheirBestPiece) {
  Serve(true);
  std::string document(60, 'x');
  document[45] = 'a';
  document[47] = 'b';
  ScoreAsk ask = Question("abc", {document, "a"});
  const auto result = Score(ask);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->scores, ElementsAre(-1, -2));
  EXPECT_THAT(Asked(), ElementsAre(PairIds("abc", document.substr(0, 26)),
                                   PairIds("abc", document.substr(20, 26)),
                                   PairIds("abc", document.substr(40, 20)), PairIds("abc", "a")));
  ask.truncate = true;
  EXPECT_THAT(Score(ask)->scores, ElementsAre(-3, -2));
  ask.truncate = false;
  ask.documents = {std::string(20 * 63 + 26, 'x')};
  EXPECT_TRUE(Score(ask).ok());
  ask.documents = {"a", std::string(20 * 64 + 26, 'x')};
  EXPECT_EQ(Refusal(ask),
            "documents[1]: must be at most 64 pieces of 26 tokens, or truncate be true; got 65");
  ask.documents.assign(65, std::string(20 * 63 + 26, 'x'));
  EXPECT_EQ(Refusal(ask), "documents: must be at most 4096 pieces in all; got 4160");
}

TEST_F(EmbeddingTest, QueriesTakeHalfOfWhatFits) {
  Serve(true);
  EXPECT_TRUE(Score(Question(std::string(14, 'q'), {"a"})).ok());
  ScoreAsk ask = Question(std::string(15, 'q'), {"a"});
  EXPECT_EQ(Refusal(ask), "query: must be at most 14 tokens, or truncate be true; got 15");
  ask.truncate = true;
  ASSERT_TRUE(Score(ask).ok());
  EXPECT_EQ(Asked().back(), PairIds(std::string(14, 'q'), "a"));
  EXPECT_EQ(Refusal(Question("", {"a"})), "query: must not be empty; got \"\"");
  EXPECT_EQ(Refusal(Question("a", {""})), "documents[0]: must not be empty; got \"\"");
  EXPECT_EQ(Refusal(Question("a", {})), "documents: must have 1 to 2048 entries; got 0");
}

TEST_F(EmbeddingTest, ModelsThatOnlyEmbedScoreByTheCosine) {
  Serve(false, {.query = "q", .passage = "p", .plain = ""});
  const std::string document(40, 'x');  // 29 fit beside the prefix: pieces of 29, 22 apart
  const auto result = Score(Question("ab", {"cd", document}));
  ASSERT_TRUE(result.ok()) << result.status();
  const std::vector<std::string> pieces = {"p" + document.substr(0, 29), "p" + document.substr(22)};
  EXPECT_THAT(Asked(),
              ElementsAre(TextIds("qab"), TextIds("pcd"), TextIds(pieces[0]), TextIds(pieces[1])));
  const auto cosine = [](const std::string& a, const std::string& b) {
    const std::vector<float> one = FakeEncoder::VectorOf(TextIds(a));
    const std::vector<float> other = FakeEncoder::VectorOf(TextIds(b));
    double dot = 0, first = 0, second = 0;
    for (size_t i = 0; i < one.size(); ++i) {
      dot += double{one[i]} * other[i];
      first += double{one[i]} * one[i];
      second += double{other[i]} * other[i];
    }
    return dot / std::sqrt(first) / std::sqrt(second);
  };
  EXPECT_NEAR(result->scores[0], cosine("qab", "pcd"), 1e-6);
  EXPECT_NEAR(result->scores[1], std::max(cosine("qab", pieces[0]), cosine("qab", pieces[1])),
              1e-6);
  EXPECT_THAT(model_->capabilities(), ElementsAre("tokenize", "embed", "score"));
}

TEST(Vectors, OfNothingAreNothing) {
  std::vector<float> zeros = {0, 0};
  Normalize(&zeros);
  EXPECT_THAT(zeros, ElementsAre(0, 0));
  EXPECT_EQ(Cosine(zeros, {1, 2}), 0);
  EXPECT_NEAR(Cosine({3, 4}, {-3, -4}), -1, 1e-7);
  EXPECT_EQ(Sigmoid(0), 0.5f);
  EXPECT_EQ(Sigmoid(-1000), 0.0f);
  EXPECT_EQ(Sigmoid(1000), 1.0f);
}

class SentencePromptsTest : public ::testing::Test {
 protected:
  absl::StatusOr<SentencePrompts> Read(const std::string& json) {
    const std::string folder = ::testing::TempDir() + "sentence_prompts";
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/config_sentence_transformers.json") << json;
    return ReadSentencePrompts(folder);
  }
};

TEST_F(SentencePromptsTest, AreThoseOfTheFile) {
  auto read = Read(R"({"prompts":{"query":"query: ","document":"doc: ","other":"o: "},
                       "default_prompt_name":"other"})");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->query, "query: ");
  EXPECT_EQ(read->passage, "doc: ");
  EXPECT_EQ(read->plain, "o: ");
  read = Read(R"({"prompts":{"passage":"p: ","document":"doc: "},"default_prompt_name":null})");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->query + read->plain, "");
  EXPECT_EQ(read->passage, "p: ");
  EXPECT_TRUE(Read("{}").ok());
  EXPECT_TRUE(ReadSentencePrompts("/nonexistent").ok());
}

TEST_F(SentencePromptsTest, BrokenFilesAreRefused) {
  for (const std::string json : {"", "[]", "{", R"({"prompts":[1]})"}) {
    EXPECT_EQ(Read(json).status().code(), absl::StatusCode::kFailedPrecondition) << json;
  }
  const std::string long_prompt(5000, 'a');
  EXPECT_THAT(Read(R"({"prompts":{"query":")" + long_prompt + R"("}})").status().message(),
              HasSubstr("at most 4 KiB"));
}

}  // namespace
}  // namespace pregate
