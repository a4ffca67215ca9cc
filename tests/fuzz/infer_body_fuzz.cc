// Any bytes as the body of an infer request over HTTP, after one byte that says how much of it is
// JSON: refused with a type, or read within the limits that are promised.
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "server/open_inference/json_form.h"
#include "tests/fuzz/fuzz_target.h"

namespace pregate {
namespace {

constexpr char kPlain[] =
    R"({"id":"1","parameters":{"seed":7,"binary_data_output":true},"inputs":[{"name":"text_input",)"
    R"("datatype":"BYTES","shape":[1],"data":["The capital of France is"]},{"name":"max_tokens",)"
    R"("datatype":"INT32","shape":[1,1],"data":[[16]]},{"name":"stop","datatype":"BYTES",)"
    R"("shape":[2],"data":[".","\n"]}],"outputs":[{"name":"text_output"}]})";
constexpr char kBinary[] =
    R"({"inputs":[{"name":"text_input","datatype":"BYTES","shape":[1],"parameters":)"
    R"({"binary_data_size":6}},{"name":"temperature","datatype":"FP32","shape":[1],"parameters":)"
    R"({"binary_data_size":4}}]})";

void CheckRead(const absl::Status& status) {
  if (!absl::IsNotFound(status)) ExpectTyped(status);  // another version
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {absl::StrCat(std::string(1, '\0'), kPlain),
          absl::StrCat(std::string(1, static_cast<char>(sizeof(kBinary) - 1)), kBinary,
                       RawBytes("Hi"), std::string(4, '\0'))};
}

}  // namespace pregate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pregate;  // NOLINT: the whole body speaks of it
  if (size == 0) return 0;
  const absl::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  absl::StatusOr<JsonRequest> read =
      ReadInferBody(body, data[0] == 0 ? std::string() : absl::StrCat(static_cast<int>(data[0])));
  CheckRead(read.ok() ? ToClientRequest(std::move(read->request), InferMethod::kInfer).status()
                      : read.status());
  absl::StatusOr<InferRequest> text = ReadGenerateBody(body);
  CheckRead(text.ok() ? ToClientRequest(*std::move(text), InferMethod::kStreamInfer).status()
                      : text.status());
  return 0;
}
