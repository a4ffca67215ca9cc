// What a run of `loadgen` was asked to do.
#ifndef PREGATE_LOAD_TESTS_LOADGEN_OPTIONS_H_
#define PREGATE_LOAD_TESTS_LOADGEN_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "load_tests/loadgen/arrivals.h"
#include "load_tests/loadgen/client.h"

namespace pregate {

enum class LoadKind : uint8_t { kSynthetic, kTrace, kClosed };

struct Options {
  ClientOptions client;
  Protocol protocol = Protocol::kPregate;
  double wait_s = 30;  // for the server to answer at all
  bool go_last = false;

  LoadKind kind = LoadKind::kSynthetic;
  SyntheticLoad synthetic;  // its lengths and its seed are those of a closed loop, too
  std::string trace_path;
  TraceOptions trace;
  int concurrency = 0;  // of a closed loop
  int64_t requests = 64;
  bool midway = false;  // as if the loop had gone on for long
  double shared_prefix = 0;
  std::string text_path;  // of what prompts are pieces of; empty: they are random ids

  double ttft_limit_ms = 1000;
  double itl_limit_ms = 100;
  std::string label;      // in the picture's legend
  std::string json_path;  // empty: no JSON
};

// INVALID_ARGUMENT with a message for the user; nothing if `--help` was asked for and printed.
absl::StatusOr<std::optional<Options>> ParseOptions(int argc, const char* const* argv);

// The load that the options describe, for a server whose prompts and answers have at most
// `max_model_len` tokens together.
absl::StatusOr<Load> MakeLoad(const Options& options, uint32_t max_model_len);

absl::StatusOr<std::string> ReadFile(const std::string& path);

// As a JSON object: what a result needs beside it to be repeated.
std::string SettingsJson(const Options& options, const ServerInfo& server);

}  // namespace pregate

#endif  // PREGATE_LOAD_TESTS_LOADGEN_OPTIONS_H_
