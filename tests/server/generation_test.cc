// The generation core on a small random model: what was asked is what the engine is asked, and what
// comes back is text.
#include "server/generation/generation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "tests/server/random_server.h"

namespace pregate {
namespace {

using ::testing::StartsWith;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Everything that one request gave.
struct Outcome {
  std::vector<AnswerDelta> answers;  // each with all of its text and tokens
  int deltas = 0;
  absl::Status status;
};

class GenerationTest : public ::testing::Test {
 protected:
  static ClientRequest Ask(std::string text, int64_t max_tokens) {
    ClientRequest request;
    request.prompt = std::move(text);
    request.max_tokens = max_tokens;
    request.sampling.temperature = 0.0f;
    request.ignore_eos = true;
    return request;
  }

  absl::StatusOr<std::shared_ptr<Generation>> Start(ClientRequest request) {
    return Generation::Start(&server_.model, std::move(request), [this] {
      absl::MutexLock lock(&mutex_);
      awake_ = true;
    });
  }

  // `wait`: until there is something; else takes as often as it can, in as many pieces.
  Outcome Collect(Generation* generation, bool wait = true) {
    Outcome outcome;
    outcome.answers.resize(generation->answers());
    while (!generation->done()) {
      if (wait) Sleep();
      for (AnswerDelta& delta : generation->Take()) {
        ++outcome.deltas;
        AnswerDelta& answer = outcome.answers.at(delta.index);
        EXPECT_EQ(answer.finish, FinishReason::kNone);
        delta.text = answer.text + delta.text;
        delta.token_ids.insert(delta.token_ids.begin(), answer.token_ids.begin(),
                               answer.token_ids.end());
        delta.logprobs.insert(delta.logprobs.begin(), answer.logprobs.begin(),
                              answer.logprobs.end());
        answer = std::move(delta);
      }
    }
    outcome.status = generation->status();
    return outcome;
  }

  Outcome Run(ClientRequest request, bool wait = true) {
    const auto generation = Start(std::move(request));
    EXPECT_TRUE(generation.ok()) << generation.status();
    return Collect(generation->get(), wait);
  }

  void Sleep() {
    absl::MutexLock lock(&mutex_);
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&awake_), absl::Seconds(60)));
    awake_ = false;
  }

  absl::Status Refusal(ClientRequest request) { return Start(std::move(request)).status(); }

  void TearDown() override {
    EXPECT_TRUE(server_.engine->WaitUntilIdle(absl::Seconds(30)));
    EXPECT_EQ(server_.engine->stats().kv_cache_usage, 0.0);
  }

  RandomServer server_;
  absl::Mutex mutex_;
  bool awake_ ABSL_GUARDED_BY(mutex_) = false;
};

TEST_F(GenerationTest, PiecesTogetherAreTheWhole) {
  ClientRequest request = Ask("Hello", 400);
  request.logprobs = 2;
  const Outcome pieces = Run(request, /*wait=*/false);
  request.stream = false;
  const Outcome whole = Run(request);
  EXPECT_GT(pieces.deltas, 1);
  EXPECT_EQ(whole.deltas, 1);
  EXPECT_EQ(pieces.answers[0].text, whole.answers[0].text);
  EXPECT_EQ(pieces.answers[0].token_ids, whole.answers[0].token_ids);
  EXPECT_EQ(pieces.answers[0].text, server_.engine->tokenizer().Decode(whole.answers[0].token_ids));
  ASSERT_EQ(pieces.answers[0].logprobs.size(), 400u);
  EXPECT_EQ(pieces.answers[0].logprobs[7].top.size(), 2u);
  EXPECT_EQ(whole.answers[0].logprobs.size(), 400u);
  EXPECT_EQ(whole.answers[0].finish, FinishReason::kLength);
  EXPECT_EQ(whole.answers[0].completion_tokens, 400);
  EXPECT_EQ(whole.answers[0].prompt_tokens, 5);
  EXPECT_TRUE(whole.status.ok());
}

TEST_F(GenerationTest, ABacklogIsTakenInPieces) {
  ClientRequest request = Ask("Hello", 40);
  request.stream = true;
  const Outcome whole = Run(request);
  const auto generation = Start(request);
  ASSERT_TRUE(generation.ok()) << generation.status();
  while (!(*generation)->backlog().complete) absl::SleepFor(absl::Milliseconds(1));
  std::vector<int32_t> ids;
  int pieces = 0;
  do {
    ++pieces;
    for (const AnswerDelta& delta : (*generation)->Take(7)) {
      EXPECT_LE(delta.token_ids.size(), 7u);
      ids.insert(ids.end(), delta.token_ids.begin(), delta.token_ids.end());
    }
  } while ((*generation)->has_more());
  EXPECT_TRUE((*generation)->done());
  EXPECT_EQ(ids, whole.answers[0].token_ids);
  EXPECT_EQ(pieces, 6);  // the end comes with the last token, or by itself
}

TEST_F(GenerationTest, AStopStringEndsTheAnswerAndTheWork) {
  const AnswerDelta free = Run(Ask("Hello", 400)).answers[0];
  for (const size_t at : {0u, 3u, 17u, 40u}) {
    // Whole characters from there on.
    size_t begin = at;
    while ((free.text[begin] & 0xC0) == 0x80) ++begin;
    size_t end = begin + 6;
    while (end < free.text.size() && (free.text[end] & 0xC0) == 0x80) ++end;
    ClientRequest request = Ask("Hello", 400);
    request.stop = {free.text.substr(begin, end - begin), "never in a text"};
    const Outcome outcome = Run(request);
    const AnswerDelta& stopped = outcome.answers[0];
    EXPECT_EQ(stopped.finish, FinishReason::kStop);
    EXPECT_TRUE(outcome.status.ok());
    EXPECT_EQ(stopped.text, free.text.substr(0, free.text.find(request.stop[0])));
    EXPECT_EQ(stopped.completion_tokens, static_cast<int>(stopped.token_ids.size()));
    EXPECT_LT(stopped.completion_tokens, 100);
    EXPECT_TRUE(
        std::equal(stopped.token_ids.begin(), stopped.token_ids.end(), free.token_ids.begin()));
  }
}

TEST_F(GenerationTest, AnswersHaveSeedsOfTheirOwn) {
  ClientRequest request = Ask("Hello", 12);
  request.sampling.temperature = 1.0f;
  request.seed = 7;
  request.n = 8;
  const Outcome first = Run(request), second = Run(request);
  std::set<std::vector<int32_t>> different;
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(first.answers[i].token_ids, second.answers[i].token_ids) << i;
    different.insert(first.answers[i].token_ids);
  }
  EXPECT_EQ(different.size(), 8u);
  request.n = 1;
  EXPECT_EQ(Run(request).answers[0].token_ids, first.answers[0].token_ids);
  request.seed.reset();
  EXPECT_NE(Run(request).answers[0].token_ids, first.answers[0].token_ids);
}

TEST_F(GenerationTest, AStopStringEndsItsAnswerOnly) {
  ClientRequest request = Ask("Hello", 300);
  request.sampling.temperature = 1.0f;
  request.n = 4;
  const Outcome free = Run(request);
  // Something that only one of them says.
  for (size_t at = 0; at + 3 < free.answers[1].token_ids.size(); ++at) {
    const std::vector<int32_t> ids(free.answers[1].token_ids.begin() + at,
                                   free.answers[1].token_ids.begin() + at + 3);
    if (!std::all_of(ids.begin(), ids.end(), [](int32_t id) { return id > 256; })) continue;
    request.stop = {server_.engine->tokenizer().Decode(ids)};
    break;
  }
  ASSERT_EQ(request.stop.size(), 1u);
  const Outcome stopped = Run(request);
  for (int i = 0; i < 4; ++i) {
    const size_t found = free.answers[i].text.find(request.stop[0]);
    const bool ends = found != std::string::npos;
    EXPECT_EQ(stopped.answers[i].text, free.answers[i].text.substr(0, found)) << i;
    EXPECT_EQ(stopped.answers[i].finish, ends ? FinishReason::kStop : FinishReason::kLength) << i;
    EXPECT_EQ(ends, i == 1) << i;
  }
}

TEST_F(GenerationTest, CancelledAnswersKeepTheirBeginning) {
  const std::vector<int32_t> whole = Run(Ask("Hello", 400)).answers[0].token_ids;
  for (const bool by_client : {true, false}) {
    const auto generation = Start(Ask("Hello", 400));
    ASSERT_TRUE(generation.ok());
    while ((*generation)->backlog().tokens < 5) absl::SleepFor(absl::Milliseconds(1));
    (*generation)->Cancel(by_client ? absl::CancelledError("gone") : absl::UnavailableError("end"));
    (*generation)->Cancel(absl::InternalError("the first counts"));
    const Outcome outcome = Collect(generation->get());
    EXPECT_EQ(outcome.status.message(), by_client ? "gone" : "end");
    EXPECT_EQ(outcome.answers[0].finish,
              by_client ? FinishReason::kCancelled : FinishReason::kError);
    EXPECT_EQ((*generation)->record().drained, !by_client);  // the server went, nothing failed
    const std::vector<int32_t>& got = outcome.answers[0].token_ids;
    EXPECT_GE(got.size(), 5u);
    EXPECT_LT(got.size(), whole.size());
    EXPECT_TRUE(std::equal(got.begin(), got.end(), whole.begin()));
    (*generation)->Cancel(absl::CancelledError("after the end"));
  }
}

TEST_F(GenerationTest, ADeadlineSaysWhere) {
  ClientRequest request = Ask("Hello", 400);
  request.deadline = absl::Now() - absl::Seconds(1);
  const Outcome outcome = Run(request);
  EXPECT_TRUE(absl::IsDeadlineExceeded(outcome.status));
  EXPECT_THAT(std::string(outcome.status.message()),
              StartsWith("deadline: expired in queue after"));
  EXPECT_EQ(outcome.answers[0].finish, FinishReason::kDeadline);
  EXPECT_TRUE(outcome.answers[0].token_ids.empty());
}

TEST_F(GenerationTest, V21_PrefixesAreSharedWithinATenantOnly) {
  ClientRequest request = Ask(std::string(100, 'x'), 4);
  auto cached = [&](const std::string& tenant) {
    request.tenant = tenant;
    return Run(request).answers[0].cached_prompt_tokens;
  };
  EXPECT_EQ(cached("a"), 0);
  EXPECT_GT(cached("a"), 0);
  EXPECT_EQ(cached("b"), 0);
  EXPECT_EQ(cached(""), 0);
  EXPECT_GT(cached("b"), 0);
}

TEST_F(GenerationTest, RefusalsNameTheField) {
  struct Case {
    const char* begins;
    absl::StatusCode code;
    void (*spoil)(ClientRequest*);
  };
  const Case cases[] = {
      {"model: must be one that ListModels names", absl::StatusCode::kNotFound,
       [](ClientRequest* r) { r->model = "Random"; }},
      {"request_id: must be at most 128 bytes; got 129", absl::StatusCode::kInvalidArgument,
       [](ClientRequest* r) { r->request_id = std::string(129, 'a'); }},
      {"tenant: must be at most 128 bytes; got 129", absl::StatusCode::kInvalidArgument,
       [](ClientRequest* r) { r->tenant = std::string(129, 'a'); }},
      {"n: must be in [1, 16]; got 0", absl::StatusCode::kInvalidArgument,
       [](ClientRequest* r) { r->n = 0; }},
      {"n: must be in [1, 16]; got 2147483647", absl::StatusCode::kInvalidArgument,
       [](ClientRequest* r) { r->n = std::numeric_limits<int32_t>::max(); }},
      {"n: must be in [1, 16]; got -5", absl::StatusCode::kInvalidArgument,
       [](ClientRequest* r) { r->n = -5; }},
      {"max_tokens: must be >= 1, or 0 with prompt_logprobs; got 0",
       absl::StatusCode::kInvalidArgument, [](ClientRequest* r) { r->max_tokens = 0; }},
      {"max_tokens: must be in [0, 2147483647]; got 2147483648", absl::StatusCode::kInvalidArgument,
       [](ClientRequest* r) { r->max_tokens = int64_t{1} << 31; }},
      {"min_tokens: must be <= max_tokens (20); got 21", absl::StatusCode::kInvalidArgument,
       [](ClientRequest* r) { r->min_tokens = 21; }},
      {"temperature: must be in [0, 2]; got nan", absl::StatusCode::kInvalidArgument,
       [](ClientRequest* r) { r->sampling.temperature = static_cast<float>(kNan); }},
      {"logprobs: must be >= 0; got -1", absl::StatusCode::kInvalidArgument,
       [](ClientRequest* r) { r->logprobs = -1; }},
      {"prompt_logprobs: must be in [0, 20]; got 21", absl::StatusCode::kInvalidArgument,
       [](ClientRequest* r) { r->prompt_logprobs = 21; }},
      {"prompt_tokens: must be at least one token; got 0", absl::StatusCode::kInvalidArgument,
       [](ClientRequest* r) { r->prompt = std::vector<int32_t>(); }},
      {"prompt_tokens[1]: must be < 320; got 320", absl::StatusCode::kInvalidArgument,
       [](ClientRequest* r) {
         r->prompt = std::vector<int32_t>{1, 320};
       }},
      {"chat: the model has no chat template", absl::StatusCode::kFailedPrecondition,
       [](ClientRequest* r) {
         r->prompt = std::vector<ChatMessage>{{"user", "a"}};
       }},
  };
  for (const Case& c : cases) {
    ClientRequest request = Ask("Hello", 20);
    c.spoil(&request);
    const absl::Status status = Refusal(request);
    EXPECT_EQ(status.code(), c.code) << status;
    EXPECT_THAT(std::string(status.message()), StartsWith(c.begins));
  }
}

TEST(ReadLists, A13_AreCountedBeforeTheyAreCopied) {
  const std::vector<std::string> million(1'000'000, "a");
  EXPECT_EQ(ReadStopStrings(million).status().message(),
            "stop: must have at most 16 entries; got 1000000");
  EXPECT_EQ(ReadStopStrings(std::vector<std::string>{"a", ""}).status().message(),
            "stop: must not be empty; got \"\"");
  EXPECT_EQ(ReadStopStrings(std::vector<std::string>{std::string(1 << 20, 'a')}).status().message(),
            "stop: must be at most 256 bytes; got 1048576");
  EXPECT_EQ(
      ReadTokenIds("stop_token_ids", std::vector<uint32_t>(129), kMaxStopIds).status().message(),
      "stop_token_ids: must have at most 128 entries; got 129");
  EXPECT_EQ(ReadTokenIds("ids", std::vector<uint32_t>{1, 1u << 31}, 10).status().message(),
            "ids[1]: must be <= 2147483647; got 2147483648");
}

}  // namespace
}  // namespace pregate
