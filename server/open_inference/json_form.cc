#include "server/open_inference/json_form.h"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/openai/json_body.h"

namespace pregate {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr char kBinarySize[] = "binary_data_size";
constexpr int64_t kMaxNameBytes = 64;  // of a field: errors repeat it

absl::Status NotA(absl::string_view field, absl::string_view what, const json& got) {
  return FieldError(field, absl::StrCat("be ", what), got.type_name());
}

// The member of `object` with that name; null: there is none, or it is JSON's null.
const json* Member(const json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

absl::Status ReadText(const json& object, const std::string& prefix, const char* name,
                      std::string* to) {
  const json* member = Member(object, name);
  if (member == nullptr) return absl::OkStatus();
  if (!member->is_string()) return NotA(absl::StrCat(prefix, name), "a string", *member);
  *to = member->get_ref<const std::string&>();
  return absl::OkStatus();
}

// Null where the member is no array.
absl::StatusOr<const json*> ReadArray(const json& object, const std::string& prefix,
                                      const char* name, int64_t most) {
  const json* member = Member(object, name);
  if (member == nullptr) return nullptr;
  const std::string field = absl::StrCat(prefix, name);
  if (!member->is_array()) return NotA(field, "an array", *member);
  if (absl::Status status = CheckCount(field, *member, most); !status.ok()) return status;
  return member;
}

// A value as it stands, whatever it is for.
absl::StatusOr<TensorValue> ReadScalar(absl::string_view field, const json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return value.get<double>();
  if (!value.is_number_integer()) return NotA(field, "a bool, a number or a string", value);
  if (value.is_number_unsigned()) {
    const uint64_t number = value.get<uint64_t>();
    if (number > INT64_MAX) return number;
  }
  return value.get<int64_t>();
}

// Whether a value is what a datatype takes; a whole number is a real one too.
bool Fits(const DataType& type, TensorValue* value) {
  switch (type.kind) {
    case ValueKind::kBool:
      return std::holds_alternative<bool>(*value);
    case ValueKind::kBytes:
      return std::holds_alternative<std::string>(*value);
    case ValueKind::kReal:
      if (const auto* whole = std::get_if<int64_t>(value)) *value = static_cast<double>(*whole);
      return std::holds_alternative<double>(*value);
    case ValueKind::kUnsigned:
      if (std::holds_alternative<uint64_t>(*value)) return type.bytes == 8;
      [[fallthrough]];
    case ValueKind::kSigned:
      break;
  }
  return std::holds_alternative<int64_t>(*value);
}

// Appends the elements of `data`, in whatever arrays they stand.
absl::Status Flatten(const std::string& field, const TensorHead& head, const json& data, int depth,
                     std::vector<TensorValue>* values) {
  if (data.is_array()) {
    if (depth == kMaxDimensions) return FieldError(field, "be arrays of the shape", "deeper ones");
    if (absl::Status status = CheckCount(field, data, kMaxElements); !status.ok()) return status;
    for (const json& element : data) {
      if (absl::Status status = Flatten(field, head, element, depth + 1, values); !status.ok()) {
        return status;
      }
    }
    return absl::OkStatus();
  }
  absl::StatusOr<TensorValue> value = ReadScalar(field, data);
  if (!value.ok()) return value.status();
  if (!Fits(*head.type, &*value)) {
    return NotA(field, absl::StrCat("of ", head.type->name), data);
  }
  if (absl::Status status = CheckRange(field, *head.type, *value); !status.ok()) return status;
  values->push_back(*std::move(value));
  return absl::OkStatus();
}

absl::Status ReadParameters(const json& object, const std::string& prefix,
                            std::vector<NamedValues>* to) {
  const json* parameters = Member(object, "parameters");
  if (parameters == nullptr) return absl::OkStatus();
  const std::string field = absl::StrCat(prefix, "parameters");
  if (!parameters->is_object()) return NotA(field, "an object", *parameters);
  if (absl::Status status = CheckCount(field, *parameters, kMaxParameters); !status.ok()) {
    return status;
  }
  for (const auto& [name, value] : parameters->items()) {
    if (absl::Status status = CheckText(field, name, kMaxNameBytes); !status.ok()) return status;
    if (value.is_null()) continue;
    absl::StatusOr<TensorValue> read = ReadScalar(absl::StrCat(field, ".", name), value);
    if (!read.ok()) return read.status();
    to->push_back({name, {*std::move(read)}});
  }
  return absl::OkStatus();
}

// Reads the inputs of a body whose tensors may stand behind its JSON.
class InputReader {
 public:
  explicit InputReader(absl::string_view bytes) : bytes_(bytes) {}

  absl::Status Read(const json& inputs, std::vector<NamedValues>* to) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      const std::string field = absl::StrCat("inputs[", i, "]");
      if (!inputs[i].is_object()) return NotA(field, "an object", inputs[i]);
      absl::StatusOr<NamedValues> input = ReadInput(field, inputs[i]);
      if (!input.ok()) return input.status();
      to->push_back(*std::move(input));
    }
    if (bytes_.empty()) return absl::OkStatus();
    return FieldError("body", "have no bytes behind the last tensor",
                      static_cast<int64_t>(bytes_.size()));
  }

 private:
  absl::StatusOr<NamedValues> ReadInput(const std::string& field, const json& input) {
    NamedValues read;
    std::string datatype;
    for (const auto& [name, to] :
         {std::pair("name", &read.name), std::pair("datatype", &datatype)}) {
      if (absl::Status status = ReadText(input, field + ".", name, to); !status.ok()) return status;
    }
    absl::StatusOr<std::vector<int64_t>> shape = ReadShape(field, input);
    if (!shape.ok()) return shape.status();
    const absl::StatusOr<TensorHead> head = ReadHead(field, datatype, *shape);
    if (!head.ok()) return head.status();
    absl::StatusOr<std::vector<TensorValue>> values = ReadValues(field, *head, input);
    if (!values.ok()) return values.status();
    read.values = *std::move(values);
    return read;
  }

  static absl::StatusOr<std::vector<int64_t>> ReadShape(const std::string& field,
                                                        const json& input) {
    const auto given = ReadArray(input, field + ".", "shape", kMaxElements);
    if (!given.ok()) return given.status();
    std::vector<int64_t> shape;
    if (*given == nullptr) return shape;
    for (const json& size : **given) {
      const absl::StatusOr<TensorValue> value = ReadScalar(field + ".shape", size);
      if (!value.ok()) return value.status();
      const auto* number = std::get_if<int64_t>(&*value);
      if (number == nullptr) return NotA(field + ".shape", "of integers", size);
      shape.push_back(*number);
    }
    return shape;
  }

  absl::StatusOr<std::vector<TensorValue>> ReadValues(const std::string& field,
                                                      const TensorHead& head, const json& input) {
    const json* data = Member(input, "data");
    std::vector<NamedValues> parameters;
    if (absl::Status status = ReadParameters(input, field + ".", &parameters); !status.ok()) {
      return status;
    }
    for (const NamedValues& parameter : parameters) {
      if (parameter.name != kBinarySize) continue;
      if (data != nullptr) {
        return FieldError(field + ".data", absl::StrCat("be absent beside ", kBinarySize), "one");
      }
      return TakeBytes(field, head, parameter.values[0]);
    }
    if (data == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(field, ".data: must be given; got none"));
    }
    std::vector<TensorValue> values;
    if (absl::Status status = Flatten(field + ".data", head, *data, 0, &values); !status.ok()) {
      return status;
    }
    if (static_cast<int64_t>(values.size()) != head.count) {
      return FieldError(field + ".data", absl::StrCat("have ", head.count, " elements"),
                        static_cast<int64_t>(values.size()));
    }
    return values;
  }

  absl::StatusOr<std::vector<TensorValue>> TakeBytes(const std::string& field,
                                                     const TensorHead& head,
                                                     const TensorValue& size) {
    const auto* number = std::get_if<int64_t>(&size);
    const int64_t left = static_cast<int64_t>(bytes_.size());
    if (number == nullptr || *number < 0 || *number > left) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, ".parameters.", kBinarySize, ": must be in [0, ", left,
                       "], the bytes behind the JSON; got ", Shown(size)));
    }
    const absl::string_view taken = bytes_.substr(0, static_cast<size_t>(*number));
    bytes_.remove_prefix(taken.size());
    return ReadRaw(field, head, taken);
  }

  absl::string_view bytes_;  // that no input has taken
};

absl::Status ReadOutputs(const json& body, JsonRequest* read) {
  const auto outputs = ReadArray(body, "", "outputs", kMaxInputs);
  if (!outputs.ok()) return outputs.status();
  if (*outputs == nullptr) return absl::OkStatus();
  for (size_t i = 0; i < (*outputs)->size(); ++i) {
    const json& output = (**outputs)[i];
    const std::string field = absl::StrCat("outputs[", i, "]");
    if (!output.is_object()) return NotA(field, "an object", output);
    std::string& name = read->request.outputs.emplace_back();
    if (absl::Status status = ReadText(output, field + ".", "name", &name); !status.ok()) {
      return status;
    }
    InferRequest of_output;
    if (absl::Status status = ReadParameters(output, field + ".", &of_output.parameters);
        !status.ok()) {
      return status;
    }
    for (const NamedValues& parameter : of_output.parameters) {
      if (parameter.name == "binary_data") read->binary = HasFlag(of_output, "binary_data");
    }
  }
  return absl::OkStatus();
}

// Fields of an answer's end, after what every response has.
void AddEnd(const AnswerDelta& delta, ordered_json* to) {
  if (delta.finish == FinishReason::kNone) return;
  (*to)["finish_reason"] = FinishName(delta.finish);
  (*to)["prompt_tokens"] = delta.prompt_tokens;
  (*to)["completion_tokens"] = delta.completion_tokens;
}

std::string Dump(const ordered_json& document) {
  return document.dump(-1, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace);
}

}  // namespace

absl::StatusOr<JsonRequest> ReadInferBody(absl::string_view body, absl::string_view json_length) {
  uint64_t length = body.size();
  if (!json_length.empty() && (!absl::SimpleAtoi(json_length, &length) || length > body.size())) {
    return FieldError(kJsonLengthHeader, absl::StrCat("be in [0, ", body.size(), "]"), json_length);
  }
  const absl::StatusOr<json> document = ParseJsonBody(body.substr(0, length));
  if (!document.ok()) return document.status();
  JsonRequest read;
  if (absl::Status status = ReadText(*document, "", "id", &read.request.id); !status.ok()) {
    return status;
  }
  if (absl::Status status = ReadParameters(*document, "", &read.request.parameters); !status.ok()) {
    return status;
  }
  read.binary = HasFlag(read.request, "binary_data_output");
  const auto inputs = ReadArray(*document, "", "inputs", kMaxInputs);
  if (!inputs.ok()) return inputs.status();
  static const json kNone = json::array();
  absl::Status status = InputReader(body.substr(length))
                            .Read(*inputs == nullptr ? kNone : **inputs, &read.request.inputs);
  if (status.ok()) status = ReadOutputs(*document, &read);
  if (!status.ok()) return status;
  return read;
}

absl::StatusOr<InferRequest> ReadGenerateBody(absl::string_view body) {
  const absl::StatusOr<json> document = ParseJsonBody(body);
  if (!document.ok()) return document.status();
  InferRequest request;
  if (absl::Status status = ReadText(*document, "", "id", &request.id); !status.ok()) return status;
  if (absl::Status status = ReadParameters(*document, "", &request.parameters); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckCount("body", *document, kMaxInputs); !status.ok()) return status;
  for (const auto& [name, value] : document->items()) {
    if (absl::Status status = CheckText("body", name, kMaxNameBytes); !status.ok()) return status;
    if (name == "id" || name == "parameters" || value.is_null()) continue;
    NamedValues named{name, {}};
    const json list = value.is_array() ? value : json::array({value});
    if (absl::Status status = CheckCount(name, list, kMaxElements); !status.ok()) return status;
    for (const json& element : list) {
      absl::StatusOr<TensorValue> read = ReadScalar(name, element);
      if (!read.ok()) return read.status();
      named.values.push_back(*std::move(read));
    }
    if (IsInput(name)) {
      request.inputs.push_back(std::move(named));
    } else if (!named.values.empty()) {
      request.parameters.push_back(std::move(named));
    }
  }
  return request;
}

JsonResponse InferResponse(const AnswerDelta& delta, absl::string_view id, const std::string& model,
                           bool binary) {
  JsonResponse response;
  ordered_json output = {{"name", kTextOutput}, {"shape", {1}}, {"datatype", "BYTES"}};
  if (binary) {
    response.bytes = RawBytes(delta.text);
    output["parameters"] = {{kBinarySize, response.bytes.size()}};
  } else {
    output["data"] = ordered_json::array({delta.text});
  }
  ordered_json document = {{"model_name", model}, {"model_version", kOnlyVersion}};
  if (!id.empty()) document["id"] = std::string(id);
  document["parameters"] = ordered_json::object();
  AddEnd(delta, &document["parameters"]);
  document["outputs"] = ordered_json::array({std::move(output)});
  response.json = Dump(document);
  return response;
}

std::string GenerateResponse(const AnswerDelta& delta, absl::string_view id,
                             const std::string& model) {
  ordered_json document = {{"model_name", model}, {"model_version", kOnlyVersion}};
  if (!id.empty()) document["id"] = std::string(id);
  document[kTextOutput] = delta.text;
  AddEnd(delta, &document);
  return Dump(document);
}

std::string ServerMetadataJson() {
  ordered_json extensions = ordered_json::array();
  for (const char* extension : ServerExtensions()) extensions.push_back(extension);
  return Dump({{"name", kServerName}, {"version", PREGATE_VERSION}, {"extensions", extensions}});
}

std::string ModelMetadataJson(const std::string& model) {
  auto list = [](const std::vector<TensorMetadata>& tensors) {
    ordered_json array = ordered_json::array();
    for (const TensorMetadata& tensor : tensors) {
      array.push_back(
          {{"name", tensor.name}, {"datatype", tensor.datatype}, {"shape", {tensor.size}}});
    }
    return array;
  };
  return Dump({{"name", model},
               {"versions", {kOnlyVersion}},
               {"platform", kServerName},
               {"inputs", list(InputMetadata())},
               {"outputs", list(OutputMetadata())}});
}

std::string ErrorJson(const absl::Status& status) {
  return Dump({{"error", std::string(InOwnWords(status).message())}});
}

}  // namespace pregate
