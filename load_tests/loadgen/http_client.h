// Sends a load over HTTP and notes when each answer's tokens come: the same load, the same records
// and the same single thread as of client.h, so that doors and servers can be compared.
//
// Each request has a connection of its own. llama.cpp's llama-server is asked for what costs it
// least: greedy choice by its only sampler, no reuse of prompts.
#ifndef PREGATE_LOAD_TESTS_LOADGEN_HTTP_CLIENT_H_
#define PREGATE_LOAD_TESTS_LOADGEN_HTTP_CLIENT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "load_tests/loadgen/client.h"

namespace pregate {

// As AwaitServer: asks for the served model, for up to `patience_s`. What a server does not tell of
// its model is taken to be small.
absl::StatusOr<ServerInfo> AwaitHttpServer(Protocol protocol, const std::string& address,
                                           double patience_s);

// As RunLoad. `model`: its name, for the protocols that want one.
absl::StatusOr<std::vector<RequestRecord>> RunHttpLoad(Protocol protocol, const std::string& model,
                                                       const ClientOptions& options,
                                                       const Load& load, const Prompts& prompts);

}  // namespace pregate

#endif  // PREGATE_LOAD_TESTS_LOADGEN_HTTP_CLIENT_H_
