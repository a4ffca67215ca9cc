// The body of POST /v1/completions.
#ifndef PREGATE_SERVER_OPENAI_COMPLETION_REQUEST_H_
#define PREGATE_SERVER_OPENAI_COMPLETION_REQUEST_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/generation/client_request.h"
#include "server/generation/served_model.h"
#include "server/openai/sampling_fields.h"

namespace pregate {

// Each is a request of its own for the engine.
inline constexpr int64_t kMaxPrompts = 64;

// A prompt as it is given back in front of its answers.
struct Echo {
  std::string text;
  std::vector<int32_t> ids;
};

struct CompletionRequest {
  std::vector<ClientRequest> prompts;  // alike but for the prompt
  StreamFields stream;
  std::vector<Echo> echo;        // one for each prompt; empty: not asked for
  bool logprobs = false;         // answers, and prompts that are given back, carry them
  bool prompt_logprobs = false;  // choices carry their prompt's, in a field of their own
};

// INVALID_ARGUMENT, UNIMPLEMENTED; NOT_FOUND where a prompt must be tokenised to be given back, and
// the model is another's.
absl::StatusOr<CompletionRequest> ReadCompletionRequest(const nlohmann::json& body,
                                                        const ServedModel& model);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_COMPLETION_REQUEST_H_
