// The commands that answer in the terminal, as their user meets them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/sample_models.h"
#include "tests/server/pregate_command.h"

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Generate, RawTextIsContinuedTheSameWayEachTime) {
  const std::string words = absl::StrCat("generate ", TinyModel(), " --raw -p abc --max-tokens 40");
  const Outcome first = Pregate(words);
  ASSERT_EQ(first.exit_status, 0) << first.err;
  EXPECT_EQ(first.err, "");  // the figures are for terminals
  EXPECT_THAT(first.out, EndsWith("\n"));
  EXPECT_GT(first.out.size(), 2);
  EXPECT_EQ(Pregate(words).out, first.out);
  EXPECT_EQ(Pregate(words + " --threads 1").out, first.out);
  EXPECT_NE(Pregate(words + " --temperature 2 --seed 5").out, first.out);
}

TEST(Generate, JsonHoldsTheAnswerAndItsFigures) {
  const std::string words = absl::StrCat("generate ", TinyModel(), " --raw -p abc --max-tokens 7");
  const Outcome outcome = Pregate(words + " --json");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  const nlohmann::json answer = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(answer["text"].get<std::string>() + "\n", Pregate(words).out);
  EXPECT_EQ(answer["token_ids"].size(), answer["usage"]["completion_tokens"]);
  EXPECT_GT(answer["usage"]["prompt_tokens"], 0);
  EXPECT_THAT(answer["finish_reason"].get<std::string>(),
              ::testing::AnyOf(std::string("length"), std::string("stop")));
  EXPECT_GT(answer["timing"]["prefill_seconds"], 0);
  EXPECT_GE(answer["timing"]["time_to_first_token_seconds"], answer["timing"]["prefill_seconds"]);
  EXPECT_TRUE(answer["timing"].contains("tokens_per_second"));
}

TEST(Generate, ThePromptMayBeStandardInput) {
  const std::string words = absl::StrCat("generate ", TinyModel(), " --raw --max-tokens 20 -p ");
  const std::string expected = Pregate(words + "'ab c'").out;
  EXPECT_EQ(Pregate(words + "-", "", "ab c").out, expected);
  EXPECT_EQ(Pregate(words + "-", "", "ab c\n").out, expected);  // one newline is the shell's
  EXPECT_NE(Pregate(words + "-", "", "ab c\n\n").out, expected);
  ExpectOneLineOfError(Pregate(words + "-"), "no input");
  const Outcome large =
      Shell(absl::StrCat("head -c 9000000 /dev/zero | " PREGATE_BINARY " ", words, "-"));
  ExpectOneLineOfError(large, "9 MB of input");
  EXPECT_THAT(large.err, HasSubstr("prompt: must be at most 8388608 bytes"));
}

TEST(Generate, AReaderThatLeavesEndsItQuietly) {
  const Outcome outcome =
      Shell(absl::StrCat("{ timeout 60 " PREGATE_BINARY " generate ", TinyModel(),
                         " --raw -p abc --max-tokens 400; echo status $? >&2; } | true"));
  EXPECT_THAT(outcome.err, ::testing::MatchesRegex("status (0|1|141)\n"));
  // The same where the signal is ignored, as some parents leave it.
  const Outcome ignored =
      Shell(absl::StrCat("{ trap '' PIPE; timeout 60 " PREGATE_BINARY " generate ", TinyModel(),
                         " --raw -p abc --max-tokens 400; echo status $? >&2; } | true"));
  EXPECT_EQ(ignored.err, "status 1\n");
  const Outcome full =
      Shell(absl::StrCat(PREGATE_BINARY " generate ", TinyModel(), " --raw -p abc >/dev/full"));
  EXPECT_EQ(full.exit_status, 2);
  EXPECT_THAT(full.err, StartsWith("pregate: output: must be writable; got "));
}

// A turn is what `generate` says to the whole conversation so far, as the template spells it.
TEST(Chat, EveryTurnKnowsTheOnesBefore) {
  const std::string chat =
      WriteFile("turns.jinja", "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}");
  const std::string flags = " --max-tokens 12 --temperature 0 ";
  const Outcome outcome =
      Pregate(absl::StrCat("chat ", TinyModel(), flags, "--chat-template ", chat, " --system s"),
              "", "ab\n\ncd \\\nef\n/reset\nab\n/system\nab\n/nothing\ngh");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "no such command: /nothing; /help lists them\n");
  const auto generate = [&](const std::string& prompt) {
    const Outcome answer = Pregate(
        absl::StrCat("generate ", TinyModel(), " --raw --json", flags, "-p -"), "", prompt + "\n");
    EXPECT_EQ(answer.exit_status, 0) << answer.err;
    return nlohmann::json::parse(answer.out)["text"].get<std::string>();
  };
  const std::string first = generate("[system:s][user:ab]");
  const std::string second =
      generate(absl::StrCat("[system:s][user:ab][assistant:", first, "][user:cd \nef]"));
  const std::string bare = generate("[user:ab]");
  const std::string last = generate(absl::StrCat("[user:ab][assistant:", bare, "][user:gh]"));
  EXPECT_EQ(outcome.out,
            absl::StrCat(first, "\n", second, "\n", first, "\n", bare, "\n", last, "\n"));
}

TEST(Chat, AModelWithoutTemplateIsRefused) {
  const Outcome outcome = Pregate(absl::StrCat("chat ", TinyModel()), "", "hello\n");
  ExpectOneLineOfError(outcome, "no template");
  EXPECT_THAT(outcome.err, HasSubstr("chat-template"));
}

TEST(Chat, AConversationThatIsTooLongGoesOnAfterAReset) {
  const std::string chat = WriteFile("content.jinja", "{{ messages[-1].content }}");
  const std::string words = absl::StrCat("chat ", TinyModel(),
                                         " --max-model-len 32 --max-tokens 3 "
                                         "--temperature 0 --chat-template ",
                                         chat);
  const Outcome outcome = Pregate(words, "", std::string(100, 'a') + "\nab\n");
  EXPECT_EQ(outcome.exit_status, 0);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("context_length_exceeded"), HasSubstr("/reset")));
  EXPECT_EQ(outcome.out, Pregate(words, "", "ab\n").out);
}

TEST(Embed, AVectorIsOneLineOfJson) {
  const std::string words = absl::StrCat("embed ", TinyModel(), " -p abc");
  const Outcome outcome = Pregate(words);
  ASSERT_EQ(outcome.exit_status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, EndsWith("]\n"));
  const auto vector = nlohmann::json::parse(outcome.out).get<std::vector<double>>();
  double squares = 0;
  for (const double value : vector) squares += value * value;
  EXPECT_NEAR(squares, 1, 1e-5);
  EXPECT_EQ(Pregate(absl::StrCat("embed ", TinyModel(), " -p -"), "", "abc\n").out, outcome.out);
  const auto raw =
      nlohmann::json::parse(Pregate(words + " --no-normalize").out).get<std::vector<double>>();
  const auto cut = nlohmann::json::parse(Pregate(words + " --no-normalize --dimensions 2").out);
  EXPECT_EQ(cut.get<std::vector<double>>(), std::vector<double>(raw.begin(), raw.begin() + 2));
  EXPECT_NE(Pregate(words + " --pooling cls").out, outcome.out);
  const Outcome wide = Pregate(words + " --dimensions 100000");
  ExpectOneLineOfError(wide, "more numbers than there are");
  EXPECT_THAT(wide.err, HasSubstr("dimensions: must be in [1, "));
}

TEST(Generate, ATemplateIsAskedForWhereTheModelHasNone) {
  const Outcome outcome = Pregate(absl::StrCat("generate ", TinyModel(), " -p abc"));
  ExpectOneLineOfError(outcome, "no template");
  EXPECT_THAT(outcome.err, HasSubstr("--raw"));
}

TEST(Generate, TheTemplateOfTheFlagIsUsed) {
  const std::string chat =
      WriteFile("chat.jinja", "{{ messages[0].content }}{{ messages[1].content }}");
  const Outcome chatted = Pregate(absl::StrCat("generate ", TinyModel(), " --chat-template ", chat,
                                               " --system ab -p c --max-tokens 20"));
  ASSERT_EQ(chatted.exit_status, 0) << chatted.err;
  EXPECT_EQ(chatted.out,
            Pregate(absl::StrCat("generate ", TinyModel(), " --raw -p abc --max-tokens 20")).out);
  ExpectOneLineOfError(Pregate(absl::StrCat("generate ", TinyModel(), " -p c --chat-template ",
                                            WriteFile("broken.jinja", "{% for %}"))),
                       "broken template");
}

TEST(Generate, APromptThatDoesNotFitIsRefused) {
  ExpectOneLineOfError(Pregate(absl::StrCat("generate ", TinyModel(),
                                            " --raw --max-model-len 8 -p ", std::string(100, 'a'))),
                       "long prompt");
}

class SampleModel : public ::testing::Test {
 protected:
  void SetUp() override {
    if (path_.empty()) GTEST_SKIP() << "run deploy/fetch_model.sh smollm2 first";
  }
  const std::string path_ = SampleModelPath("SmolLM2-135M-Instruct.Q4_1.gguf");
};

TEST_F(SampleModel, AnswersAQuestion) {
  const std::string words = absl::StrCat(
      "generate ", path_, " -p 'What is the capital of France? Answer in one sentence.'");
  const Outcome outcome = Pregate(words);
  EXPECT_EQ(outcome.exit_status, 0);
  EXPECT_EQ(outcome.out, "The capital of France is Paris.\n");
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(Pregate(words + " --threads 1").out, outcome.out);
}

TEST_F(SampleModel, Converses) {
  const Outcome outcome = Pregate(absl::StrCat("chat ", path_, " --temperature 0"), "",
                                  "What is the capital of France?\nAnd of Spain?\n");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.err;
  const size_t second = outcome.out.find('\n');
  EXPECT_THAT(outcome.out.substr(0, second), HasSubstr("Paris"));
  EXPECT_THAT(outcome.out.substr(second), HasSubstr("Madrid"));
}

TEST_F(SampleModel, AnInterruptEndsTheAnswer) {
  const Outcome outcome =
      Pregate(absl::StrCat("generate ", path_, " --max-tokens 8000 -p 'Tell a very long story.'"),
              "timeout --foreground --preserve-status --signal INT --kill-after 20 1.5");
  EXPECT_EQ(outcome.exit_status, 130) << outcome.err;
  EXPECT_GT(outcome.out.size(), 20);
  EXPECT_THAT(outcome.out, EndsWith("\n"));
}

}  // namespace
}  // namespace pregate
