#include "engine/model/hf_quantization.h"

#include <string>
#include <string_view>

#include "engine/model/f8_weights.h"
#include "engine/model/file_error.h"

namespace pregate {
namespace {

// An absent size is that of scales for tensors or rows.
absl::Status CheckBlockSize(const JsonFields& fields, std::string_view name) {
  const nlohmann::json* size = fields.Find(name);
  if (size == nullptr || *size == nlohmann::json({kF8BlockSize, kF8BlockSize})) {
    return absl::OkStatus();
  }
  return NotServed(fields.FullName(name),
                   absl::StrCat("must be [", kF8BlockSize, ", ", kF8BlockSize, "]"),
                   Quoted(size->dump()));
}

// What "compressed-tensors" says of one group of layers.
absl::Status CheckGroup(JsonFields group) {
  const nlohmann::json* object = group.OptionalObject("weights");
  if (!group.status().ok() || object == nullptr) return group.status();
  JsonFields weights(object, group.FullName("weights."));
  const int64_t bits = weights.Integer("num_bits", 1, 64);
  const std::string type = weights.String("type");
  const std::string strategy = weights.OptionalString("strategy").value_or("tensor");
  if (!weights.status().ok()) return weights.status();
  if (bits != 8 || type != "float") {
    return NotServed(weights.FullName("type"), "weights must be floats of 8 bits",
                     absl::StrCat(bits, " bits of ", Quoted(type)));
  }
  if (strategy != "tensor" && strategy != "channel" && strategy != "block") {
    return NotServed(weights.FullName("strategy"), "must be tensor, channel or block",
                     Quoted(strategy));
  }
  return CheckBlockSize(weights, "block_structure");
}

absl::Status CheckCompressedTensors(JsonFields fields) {
  const std::string format = fields.String("format");
  const nlohmann::json* groups = fields.OptionalObject("config_groups");
  if (!fields.status().ok()) return fields.status();
  if (format != "float-quantized") {
    return NotServed(fields.FullName("format"), "must be float-quantized", Quoted(format));
  }
  if (groups == nullptr) return absl::OkStatus();
  for (const auto& [name, group] : groups->items()) {
    const std::string full = fields.FullName("config_groups." + name);
    if (!group.is_object()) return Malformed(full, "must be an object", group.type_name());
    if (absl::Status status = CheckGroup(JsonFields(&group, full + ".")); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckHuggingFaceQuantization(JsonFields fields) {
  const std::string method = fields.String("quant_method");
  if (!fields.status().ok()) return fields.status();
  if (method == "fp8") return CheckBlockSize(fields, "weight_block_size");
  if (method == "fbgemm_fp8") return absl::OkStatus();
  if (method == "compressed-tensors") return CheckCompressedTensors(std::move(fields));
  return NotServed(fields.FullName("quant_method"),
                   "must be fp8, fbgemm_fp8 or compressed-tensors (other quantised weights are "
                   "served from GGUF files)",
                   Quoted(method));
}

}  // namespace pregate
