// The routes that answer at once: what is served, and text to token ids and back.
#ifndef PREGATE_SERVER_OPENAI_TOKEN_ROUTES_H_
#define PREGATE_SERVER_OPENAI_TOKEN_ROUTES_H_

#include <vector>

#include "server/generation/served_model.h"
#include "server/http/http_server.h"

namespace pregate {

// /v1/models, /v1/models/{id}, and /tokenize and /detokenize as vLLM has them. `model` must outlive
// the routes.
std::vector<HttpRoute> TokenRoutes(const ServedModel* model);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPENAI_TOKEN_ROUTES_H_
