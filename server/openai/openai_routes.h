// The routes of OpenAI's API, and vLLM's /tokenize and /detokenize beside them.
#ifndef PREGATE_SERVER_OPENAI_OPENAI_ROUTES_H_
#define PREGATE_SERVER_OPENAI_OPENAI_ROUTES_H_

#include <vector>

#include "server/http/answer_exchange.h"
#include "server/http/http_server.h"

namespace pregate {

// `environment` must outlive the routes.
std::vector<HttpRoute> OpenAiRoutes(const HttpEnvironment* environment);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_OPENAI_ROUTES_H_
