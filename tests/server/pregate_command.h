// Runs the binary as a shell would.
#ifndef PREGATE_TESTS_SERVER_PREGATE_COMMAND_H_
#define PREGATE_TESTS_SERVER_PREGATE_COMMAND_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/model/gguf_writer.h"

namespace pregate {

struct Outcome {
  int exit_status = -1;  // -1: ended by a signal
  std::string out, err;
};

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::string WriteFile(const std::string& name, const std::string& contents) {
  const std::string path = ::testing::TempDir() + name;
  std::ofstream(path, std::ios::binary) << contents;
  return path;
}

// A line for the shell; what it writes, less what it redirects itself.
inline Outcome Shell(const std::string& line) {
  const std::string stem = absl::StrCat(::testing::TempDir(), "command_", getpid());
  const int status =
      std::system(absl::StrCat("{ ", line, "\n} >", stem, ".out 2>", stem, ".err").c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, ReadFile(stem + ".out"),
          ReadFile(stem + ".err")};
}

// Runs the binary on `arguments`, words for the shell. `prefix`: a program that runs it in turn.
// `input`: what its standard input has.
inline Outcome Pregate(const std::string& arguments, const std::string& prefix = "",
                       const std::string& input = "") {
  const std::string from =
      input.empty() ? "/dev/null" : WriteFile(absl::StrCat("command_", getpid(), ".in"), input);
  return Shell(absl::StrCat(prefix, " " PREGATE_BINARY " ", arguments, " <", from));
}

inline std::string TinyModel() {
  static const std::string path =
      WriteFile(absl::StrCat("tiny_", getpid(), ".gguf"), MakeTinyGguf({}).Build());
  return path;
}

inline void ExpectOneLineOfError(const Outcome& outcome, const std::string& what) {
  EXPECT_EQ(outcome.exit_status, 2) << what;
  EXPECT_EQ(outcome.out, "") << what;
  EXPECT_THAT(outcome.err,
              ::testing::AllOf(::testing::StartsWith("pregate: "), ::testing::EndsWith("\n")))
      << what;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
}

}  // namespace pregate

#endif  // PREGATE_TESTS_SERVER_PREGATE_COMMAND_H_
