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

// A list of token ids that is called `name` in errors. Of more than `most`, none is copied.
std::vector<int32_t> ReadJsonIds(JsonFields* fields, absl::string_view name,
                                 const nlohmann::json& list, int64_t most);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_SAMPLING_FIELDS_H_
