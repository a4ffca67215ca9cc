// A safetensors file of any bytes: a typed error, or tensors that cover its data exactly.
#include <cstdlib>

#include "engine/model/safetensors.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/model/gguf_writer.h"

namespace pregate {

std::vector<std::string> FuzzSeeds() {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},)"
      R"("model.norm.weight":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},)"
      R"("lm_head.weight":{"dtype":"BF16","shape":[3,4],"data_offsets":[16,40]},)"
      R"("ids":{"dtype":"I64","shape":[],"data_offsets":[40,48]}})";
  return {Bytes<uint64_t>(header.size()) + header + std::string(48, 'd'),
          Bytes<uint64_t>(2) + "{}"};
}

}  // namespace pregate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const auto tensors = pregate::ParseSafetensors(file, "input");
  pregate::ExpectTyped(tensors.status());
  if (!tensors.ok()) return 0;
  const char* end = file.data() + file.size();
  for (auto tensor = tensors->rbegin(); tensor != tensors->rend(); ++tensor) {
    if (tensor->data.data() + tensor->data.size() != end) std::abort();
    end = tensor->data.data();
  }
  return 0;
}
