// Completion scripts, by the shells that read them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/server/pregate_command.h"

namespace pregate {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

bool HasShell(const std::string& shell) {
  return Shell(absl::StrCat("command -v ", shell)).exit_status == 0;
}

// What bash offers for the last of these words.
std::vector<std::string> Bash(const std::vector<std::string>& words) {
  const std::string script = WriteFile("completion.bash", Pregate("completion bash").out);
  std::string array;
  for (const std::string& word : words) absl::StrAppend(&array, " '", word, "'");
  const std::string line =
      absl::StrCat("source ", script, "; COMP_WORDS=(", array, "); COMP_CWORD=", words.size() - 1,
                   "; _pregate; printf '%s\\n' \"${COMPREPLY[@]}\"");
  const std::string program = WriteFile("complete.bash", line);
  const Outcome outcome = Shell(absl::StrCat("bash ", program));
  EXPECT_EQ(outcome.exit_status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  return absl::StrSplit(outcome.out, '\n', absl::SkipEmpty());
}

TEST(Completion, BashKnowsCommandsFlagsAndWords) {
  if (!HasShell("bash")) GTEST_SKIP() << "bash is not installed";
  EXPECT_THAT(Bash({"pregate", "s"}), UnorderedElementsAre("serve", "simulate"));
  EXPECT_THAT(Bash({"pregate", ""}), Contains("chat"));
  EXPECT_THAT(Bash({"pregate", "serve", "--max-num-s"}),
              UnorderedElementsAre("--max-num-seqs", "--max-num-step-seqs"));
  EXPECT_THAT(Bash({"pregate", "serve", "m.gguf", "--no-"}),
              UnorderedElementsAre("--no-enable-prefix-caching", "--no-expert-prefetch"));
  EXPECT_THAT(Bash({"pregate", "serve", "--dtype", ""}), ElementsAre("auto", "int8", "float32"));
  EXPECT_THAT(Bash({"pregate", "generate", "-"}), Contains("-p"));
  EXPECT_THAT(Bash({"pregate", "generate", "--"}), Not(Contains("--max-num-seqs")));
  EXPECT_THAT(Bash({"pregate", "serve", "--max-num-seqs", ""}), ElementsAre());
  EXPECT_THAT(Bash({"pregate", "completion", ""}), ElementsAre("bash", "zsh", "fish"));
}

TEST(Completion, BashKnowsFiles) {
  if (!HasShell("bash")) GTEST_SKIP() << "bash is not installed";
  const std::string path = WriteFile("completion_model.gguf", "");
  const std::string begun = path.substr(0, path.size() - 6);
  EXPECT_THAT(Bash({"pregate", "inspect", begun}), ElementsAre(path));
  EXPECT_THAT(Bash({"pregate", "serve", "m", "--chat-template", begun}), ElementsAre(path));
  EXPECT_THAT(Bash({"pregate", "serve", "m", "--config", begun}), ElementsAre(path));
}

TEST(Completion, ZshReadsItsScript) {
  if (!HasShell("zsh")) GTEST_SKIP() << "zsh is not installed";
  const std::string script = WriteFile("completion.zsh", Pregate("completion zsh").out);
  const Outcome outcome = Shell(absl::StrCat("zsh -f -n ", script));
  EXPECT_EQ(outcome.exit_status, 0);
  EXPECT_EQ(outcome.err, "");
  // And what it would offer: _arguments is given one line for each flag.
  const Outcome offered = Shell(absl::StrCat(
      "zsh -f -c 'source ", script,
      "; _arguments() { print -rl -- \"$@\" }; words=(pregate serve --d); CURRENT=3; _pregate'"));
  EXPECT_EQ(offered.exit_status, 0) << offered.err;
  EXPECT_EQ(offered.err, "");
  EXPECT_THAT(offered.out, ::testing::HasSubstr("\n--dtype["));
  EXPECT_THAT(offered.out, ::testing::HasSubstr(":word:(auto int8 float32)\n"));
}

TEST(Completion, FishReadsItsScript) {
  if (!HasShell("fish")) GTEST_SKIP() << "fish is not installed";
  const std::string script = WriteFile("completion.fish", Pregate("completion fish").out);
  EXPECT_EQ(Shell(absl::StrCat("fish --no-config -n ", script)).err, "");
  const auto complete = [&](const std::string& line) {
    const Outcome outcome =
        Shell(absl::StrCat("HOME=", ::testing::TempDir(), " fish --no-config -c 'source ", script,
                           "; complete -C \"", line, "\"'"));
    EXPECT_EQ(outcome.exit_status, 0) << outcome.err;
    std::vector<std::string> words;
    for (absl::string_view offer : absl::StrSplit(outcome.out, '\n', absl::SkipEmpty())) {
      words.emplace_back(offer.substr(0, offer.find('\t')));
    }
    return words;
  };
  EXPECT_THAT(complete("pregate s"), UnorderedElementsAre("serve", "simulate"));
  EXPECT_THAT(complete("pregate serve --dty"), ElementsAre("--dtype"));
  EXPECT_THAT(complete("pregate serve --dtype "), UnorderedElementsAre("auto", "int8", "float32"));
}

}  // namespace
}  // namespace pregate
