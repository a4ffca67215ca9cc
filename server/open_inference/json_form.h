// The Open Inference Protocol as JSON, with tensors as JSON or as bytes behind it.
#ifndef PREGATE_SERVER_OPEN_INFERENCE_JSON_FORM_H_
#define PREGATE_SERVER_OPEN_INFERENCE_JSON_FORM_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/generation/answer_text.h"
#include "server/generation/served_model.h"
#include "server/open_inference/infer_request.h"

namespace pregate {

// Header that says how many bytes of a body are JSON; the rest are tensors, one after another.
inline constexpr char kJsonLengthHeader[] = "inference-header-content-length";

// A request, and the form that its response is to have.
struct JsonRequest {
  InferRequest request;
  bool binary = false;  // the output as bytes
};

// The body of POST .../infer. `json_length`: that header's value; "": there is none, all is JSON.
// Errors are those of FromMessage, and of what is no JSON.
absl::StatusOr<JsonRequest> ReadInferBody(absl::string_view body, absl::string_view json_length);

// The body of POST .../generate and .../generate_stream: inputs by name, the rest is parameters.
absl::StatusOr<InferRequest> ReadGenerateBody(absl::string_view body);

// A response to infer: JSON, and what is to stand behind it ("" unless `binary`).
struct JsonResponse {
  std::string json;
  std::string bytes;
};
JsonResponse InferResponse(const AnswerDelta& delta, absl::string_view id, const std::string& model,
                           bool binary);

// One response to generate, or one of generate_stream.
std::string GenerateResponse(const AnswerDelta& delta, absl::string_view id,
                             const std::string& model);

std::string ServerMetadataJson();
std::string ModelMetadataJson(const std::string& model);
// {"error":"..."}
std::string ErrorJson(const absl::Status& status);

}  // namespace pregate

#endif  // PREGATE_SERVER_OPEN_INFERENCE_JSON_FORM_H_
