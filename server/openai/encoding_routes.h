// The routes of models that read texts whole: /v1/embeddings and /v1/rerank.
#ifndef PREGATE_SERVER_OPENAI_ENCODING_ROUTES_H_
#define PREGATE_SERVER_OPENAI_ENCODING_ROUTES_H_

#include <vector>

#include "server/http/answer_exchange.h"
#include "server/http/http_server.h"

namespace pregate {

// /v1/embeddings as OpenAI has it, and /v1/rerank, /v2/rerank and /rerank, which are one, as Jina,
// Cohere and vLLM have them. `environment` must outlive the routes.
std::vector<HttpRoute> EncodingRoutes(const HttpEnvironment* environment);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_ENCODING_ROUTES_H_
