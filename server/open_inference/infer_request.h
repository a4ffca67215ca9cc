// InferRequest: a request of the Open Inference Protocol, whichever form it came in, and what it
// asks of the model.
#ifndef PREGATE_SERVER_OPEN_INFERENCE_INFER_REQUEST_H_
#define PREGATE_SERVER_OPEN_INFERENCE_INFER_REQUEST_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/generation/client_request.h"
#include "server/generation/served_model.h"
#include "server/open_inference/tensor.h"

namespace pregate {

inline constexpr char kServerName[] = "pregate";
inline constexpr char kOnlyVersion[] = "1";  // of the model
inline constexpr char kTextOutput[] = "text_output";
inline constexpr int64_t kMaxInputs = 64;
inline constexpr int64_t kMaxParameters = 64;

struct NamedValues {
  std::string name;
  std::vector<TensorValue> values;
};

struct InferRequest {
  std::string model;
  std::string version;
  std::string id;
  std::vector<NamedValues> inputs;
  std::vector<NamedValues> parameters;
  std::vector<std::string> outputs;  // empty: all
};

// Whether a request may have more than one response.
enum class InferMethod : uint8_t { kInfer, kStreamInfer };

// `method` kInfer: `stream` must not be asked for. INVALID_ARGUMENT: an input is missing, there
// twice, unknown or of another kind than its name asks for, or an output is unknown; NOT_FOUND:
// another version; UNIMPLEMENTED: what other doors offer.
absl::StatusOr<ClientRequest> ToClientRequest(InferRequest request, InferMethod method);

// An error of the core with its field under this protocol's name.
absl::Status InOwnWords(const absl::Status& status);

// Whether that is the name of an input.
bool IsInput(absl::string_view name);

// The bool parameter of that name; false where there is none.
bool HasFlag(const InferRequest& request, absl::string_view name);

// OK, or NOT_FOUND: the model that is served has another name, or version.
absl::Status CheckModel(const ServedModel& model, absl::string_view name,
                        absl::string_view version);

// Inputs and outputs as the model's metadata lists them.
struct TensorMetadata {
  const char* name;
  const char* datatype;
  int64_t size;  // of the one dimension; -1: any
};
std::vector<TensorMetadata> InputMetadata();
std::vector<TensorMetadata> OutputMetadata();

// Extensions of the protocol that are served, for the server's metadata.
absl::Span<const char* const> ServerExtensions();

}  // namespace pregate

#endif  // PREGATE_SERVER_OPEN_INFERENCE_INFER_REQUEST_H_
