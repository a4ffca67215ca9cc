// What completions and chats have in common in a request.
#ifndef PREGATE_SERVER_OPENAI_SAMPLING_FIELDS_H_
#define PREGATE_SERVER_OPENAI_SAMPLING_FIELDS_H_

#include <cstdint>
#include <vector>

#include "server/generation/client_request.h"
#include "server/openai/json_fields.h"

namespace pregate {

// All but the prompt, max_tokens and log-probabilities. Ranges are ValidateRequest's business.
void ReadSampling(JsonFields* fields, ClientRequest* request);

// Whether to stream, and whether the stream ends with the usage.
struct StreamFields {
  bool stream = false;
  bool include_usage = false;
};
StreamFields ReadStream(JsonFields* fields);

// Tokens whose log-probabilities are told beside those of the likeliest: asks for `logprobs` if
// nothing else has.
void ReadLogprobIds(JsonFields* fields, ClientRequest* request);

// Log-probabilities of the prompt, as vLLM has them: how many of the likeliest, beside each token.
// Whether they were asked for.
bool ReadPromptLogprobs(JsonFields* fields, const StreamFields& stream, ClientRequest* request);

// A list of token ids that is called `name` in errors. Of more than `most`, none is copied.
std::vector<int32_t> ReadJsonIds(JsonFields* fields, absl::string_view name,
                                 const nlohmann::json& list, int64_t most);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_SAMPLING_FIELDS_H_
