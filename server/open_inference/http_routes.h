// The routes of the Open Inference Protocol over HTTP.
#ifndef PREGATE_SERVER_OPEN_INFERENCE_HTTP_ROUTES_H_
#define PREGATE_SERVER_OPEN_INFERENCE_HTTP_ROUTES_H_

#include <vector>

#include "server/http/answer_exchange.h"
#include "server/http/health_routes.h"
#include "server/http/http_server.h"

namespace pregate {

// Under /v2: metadata and health of the server; of the model, with or without /versions/1, its
// metadata, /ready, /infer, and of Triton's extension /generate and /generate_stream. Both must
// outlive the routes.
std::vector<HttpRoute> OpenInferenceRoutes(const HttpEnvironment* environment,
                                           const HealthState* health);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPEN_INFERENCE_HTTP_ROUTES_H_
