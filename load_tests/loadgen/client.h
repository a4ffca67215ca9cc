// Sends a load to a Pregate server over gRPC and notes when each answer's tokens come.
//
// One thread sends and receives. Whatever keeps it from receiving in time keeps it from sending in
// time as well, so the generator's own lag, which a run reports, bounds the error of every latency.
#ifndef PREGATE_LOAD_TESTS_LOADGEN_CLIENT_H_
#define PREGATE_LOAD_TESTS_LOADGEN_CLIENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "load_tests/loadgen/pace.h"
#include "load_tests/loadgen/prompts.h"
#include "load_tests/loadgen/report.h"

namespace pregate {

// How a server is spoken to: by pregate.v1, by llama.cpp's own /completion, or by OpenAI's
// /v1/completions.
enum class Protocol : uint8_t { kPregate, kLlamaServer, kOpenAi };

struct ServerInfo {
  std::string model;
  uint32_t vocab_size = 0;
  uint32_t max_model_len = 0;
};
// Asks for the served model, for up to `patience_s` while the server does not answer.
absl::StatusOr<ServerInfo> AwaitServer(const std::string& address, double patience_s);

// The served model's ids of a text, of at most 4 MiB.
absl::StatusOr<std::vector<uint32_t>> TokenizeText(const std::string& address,
                                                   const std::string& text);

struct ClientOptions {
  std::string address;   // "127.0.0.1:8001"
  int connections = 8;   // requests take turns; a server bounds the streams of one connection
  double timeout_s = 0;  // of a request, from its sending
  // Tokens come when their bytes reach the socket, not when they are read: what keeps this process
  // from reading counts for nothing. Not for RunLoad: gRPC's library reads as it likes.
  bool kernel_times = false;
  // With kernel_times: rests so long, below a second, after every connection that it has read (over
  // HTTP, every 64): on a core that it shares with the server it is never long at a stretch.
  double nap_s = 0;
};

// One record for each request, in their order. Returns when all have ended. UNAVAILABLE if the
// server cannot be reached at the start.
absl::StatusOr<std::vector<RequestRecord>> RunLoad(const ClientOptions& options, const Load& load,
                                                   const Prompts& prompts);

}  // namespace pregate

#endif  // PREGATE_LOAD_TESTS_LOADGEN_CLIENT_H_
