#include "engine/plan/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/plan/sim_random.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const char kTrace[] =
    R"({"pregate_trace":1,"experts":7}
{"step":0,"seconds":0.5,"stall":0.25,"experts":"02","guessed":"006","loaded":[3,1],"load_seconds":[0.1,0.2]}
{"cancel":9,"step":1,"in_step":1}
{"request":9,"arrival":1.5,"step":0,"prompt":2,"experts":"0126","tokens":[5,6,7,8],"stop_ids":[6,8],"max_tokens":8}
{"request":4, "arrival":0.5, "step":0, "prompt":1, "experts":"00", "unknown":"x"}
)";

TEST(WorkloadTest, ReadsATrace) {
  Workload workload;
  ASSERT_EQ(ReadWorkload(kTrace, &workload), "");
  ASSERT_EQ(workload.requests.size(), 2u);
  EXPECT_EQ(workload.requests[0].id, 4u);  // in the order they came
  const WorkloadRequest& request = workload.requests[1];
  EXPECT_EQ(request.prompt, 2);
  EXPECT_EQ(request.answer(), 2);
  EXPECT_EQ(request.max_tokens, 8);
  EXPECT_THAT(request.experts, ElementsAre(0, 1, 2, 6));
  EXPECT_THAT(request.tokens, ElementsAre(5, 6, 7, 8));
  EXPECT_THAT(request.stop_ids, ElementsAre(6, 8));
  ASSERT_EQ(workload.steps.size(), 1u);
  EXPECT_EQ(workload.steps[0].experts, 5u);
  EXPECT_THAT(workload.steps[0].guessed, ElementsAre(0, 0, 6));
  EXPECT_THAT(workload.steps[0].loaded, ElementsAre(3, 1));
  ASSERT_EQ(workload.cancels.size(), 1u);
  EXPECT_TRUE(workload.cancels[0].in_step);
}

TEST(WorkloadTest, WhatIsWrittenIsRead) {
  Workload workload;
  ASSERT_EQ(ReadWorkload(kTrace, &workload), "");
  std::string text = WorkloadHeader(7);
  for (const WorkloadRequest& request : workload.requests) text += ToLine(request);
  for (const WorkloadCancel& cancel : workload.cancels) text += ToLine(cancel);
  text += ToLine(0, workload.steps[0]);
  Workload again;
  ASSERT_EQ(ReadWorkload(text, &again), "") << text;
  ASSERT_EQ(again.requests.size(), 2u);
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(ToLine(again.requests[i]), ToLine(workload.requests[i]));
  EXPECT_EQ(ToLine(0, again.steps[0]), ToLine(0, workload.steps[0]));
  EXPECT_EQ(ToLine(again.cancels[0]), ToLine(workload.cancels[0]));
}

TEST(WorkloadTest, WrongLinesAreNamed) {
  const std::string header = WorkloadHeader(7);
  const auto wrong = [&](const std::string& line) {
    Workload workload;
    return ReadWorkload(header + line, &workload);
  };
  EXPECT_EQ(wrong("{"), "line 2: must be a flat JSON object");
  EXPECT_THAT(wrong(R"({"request":1,"prompt":1,"experts":"07"})"), HasSubstr("line 2: experts"));
  EXPECT_THAT(wrong(R"({"request":1,"prompt":2,"experts":"00"})"), HasSubstr("prompt"));
  EXPECT_THAT(wrong(R"({"request":1,"prompt":0,"experts":"00"})"), HasSubstr("prompt"));
  EXPECT_THAT(wrong(R"({"request":-1,"prompt":1,"experts":"00"})"), HasSubstr("request"));
  EXPECT_THAT(wrong(R"({"request":1,"prompt":1,"experts":"00","tokens":[1]})"),
              HasSubstr("tokens"));
  EXPECT_THAT(wrong(R"({"request":1,"prompt":1,"experts":"00","tokens":[1,2],"stop_ids":[2,1]})"),
              HasSubstr("stop_ids"));
  EXPECT_THAT(wrong(R"({"step":0,"seconds":1,"experts":"0","guessed":"7"})"), HasSubstr("guessed"));
  EXPECT_THAT(wrong(R"({"request":1,"prompt":1,"experts":"000","max_tokens":1})"),
              HasSubstr("max_tokens"));
  EXPECT_THAT(wrong(R"({"request":1,"prompt":1,"experts":"00","arrival":-1})"),
              HasSubstr("arrival"));
  EXPECT_THAT(wrong(R"({"step":3,"seconds":1,"experts":"0"})"), HasSubstr("step: must follow"));
  EXPECT_THAT(wrong(R"({"step":0,"seconds":1,"experts":"0","loaded":[1]})"), HasSubstr("loaded"));
  Workload workload;
  EXPECT_THAT(ReadWorkload(R"({"pregate_trace":2,"experts":7})", &workload),
              HasSubstr("pregate_trace: must be 1"));
  EXPECT_THAT(ReadWorkload(R"({"pregate_trace":1,"experts":65})", &workload),
              HasSubstr("experts: must be 1 to 64"));
}

// Any damage of a sound file is an error or another sound file, never a crash.
TEST(WorkloadTest, DamageDoesNoHarm) {
  SimRandom random(3);
  const std::string sound = kTrace;
  for (int32_t round = 0; round < 20'000; ++round) {
    std::string text = sound;
    for (int32_t i = random.Draw(1, 4); i > 0; --i) {
      const int32_t at = random.Draw(0, static_cast<int32_t>(text.size()) - 1);
      if (random.OneIn(3)) {
        text.resize(at + 1);
      } else {
        text[at] = static_cast<char>(random.Draw(0, 255));
      }
    }
    Workload workload;
    if (!ReadWorkload(text, &workload).empty()) continue;
    for (const WorkloadRequest& request : workload.requests) {
      ASSERT_GE(request.answer(), 1);
      for (uint8_t expert : request.experts) ASSERT_LT(expert, workload.num_experts);
    }
  }
}

TEST(WorkloadTest, ChainsStayWithTheirExpertAsOftenAsTheyShould) {
  const Workload workload = DrawWorkload({.seed = 5, .requests = 2000, .rate = 2});
  int64_t stays = 0, tokens = 0;
  double prompts = 0, answers = 0;
  for (const WorkloadRequest& request : workload.requests) {
    prompts += request.prompt;
    answers += request.answer();
    for (size_t i = 1; i < request.experts.size(); ++i) {
      stays += request.experts[i] == request.experts[i - 1];
      ++tokens;
    }
  }
  EXPECT_NEAR(static_cast<double>(stays) / static_cast<double>(tokens), 0.71, 0.01);
  EXPECT_NEAR(prompts / 2000, 70, 5);
  EXPECT_NEAR(answers / 2000, 200, 15);
  EXPECT_NEAR(workload.requests.back().arrival, 1000, 70);
}

}  // namespace
}  // namespace pregate
