// The bodies of POST /v1/embeddings and POST /v1/rerank.
#ifndef PREGATE_SERVER_OPENAI_ENCODING_REQUESTS_H_
#define PREGATE_SERVER_OPENAI_ENCODING_REQUESTS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/embedding/embed_job.h"
#include "server/embedding/score_job.h"

namespace pregate {

struct EmbeddingsRequest {
  EmbedAsk ask;
  bool base64 = false;  // little-endian floats in base64, not a list of numbers
};

// OpenAI's fields, and beside them `input_type` ("query", "passage"), `normalize` (true unless said
// otherwise) and `truncate`. INVALID_ARGUMENT, UNIMPLEMENTED.
absl::StatusOr<EmbeddingsRequest> ReadEmbeddingsRequest(const nlohmann::json& body);

struct RerankRequest {
  ScoreAsk ask;
  int64_t top_n = 0;  // of the best; 0: all
  bool return_documents = false;
};

// As Jina's and Cohere's API have it: `documents` are strings or objects with `text`. Beside their
// fields, `raw_scores` and `truncate`. INVALID_ARGUMENT, UNIMPLEMENTED.
absl::StatusOr<RerankRequest> ReadRerankRequest(const nlohmann::json& body);

// The bodies of the responses.
std::string EmbeddingsAnswer(const std::string& model, bool base64, const EncodingResult& result);
// `documents` are those of the request, or none if they are not to be given back.
std::string RerankAnswer(const std::string& id, const std::string& model, int64_t top_n,
                         const std::vector<std::string>& documents, const EncodingResult& result);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_ENCODING_REQUESTS_H_
