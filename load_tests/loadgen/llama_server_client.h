// Sends a load to llama.cpp's llama-server and notes when each answer's tokens come: the same load,
// the same records and the same single thread as of client.h, so that both servers can be compared.
//
// Each request has a connection of its own and asks for what costs that server least: greedy
// choice by its only sampler, no reuse of prompts.
#ifndef PREGATE_LOAD_TESTS_LOADGEN_LLAMA_SERVER_CLIENT_H_
#define PREGATE_LOAD_TESTS_LOADGEN_LLAMA_SERVER_CLIENT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "load_tests/loadgen/client.h"

namespace pregate {

// As AwaitServer: asks for the served model, for up to `patience_s`.
absl::StatusOr<ServerInfo> AwaitLlamaServer(const std::string& address, double patience_s);

// As RunLoad.
absl::StatusOr<std::vector<RequestRecord>> RunLlamaServerLoad(const ClientOptions& options,
                                                              const Load& load,
                                                              const Prompts& prompts);

}  // namespace pregate

#endif  // PREGATE_LOAD_TESTS_LOADGEN_LLAMA_SERVER_CLIENT_H_
