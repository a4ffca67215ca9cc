#include "server/grpc/open_inference_messages.h"

#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/generation/field_error.h"

namespace pregate {
namespace {

using inference::InferParameter;
using inference::InferTensorContents;
using inference::ModelInferRequest;
using InferInputTensor = ModelInferRequest::InferInputTensor;

template <typename Wide, typename Field>
absl::StatusOr<std::vector<TensorValue>> ReadField(absl::string_view field, const TensorHead& head,
                                                   const Field& given) {
  if (static_cast<int64_t>(given.size()) != head.count) {
    return FieldError(absl::StrCat(field, ".contents"),
                      absl::StrCat("have ", head.count, " ", head.type->name),
                      static_cast<int64_t>(given.size()));
  }
  std::vector<TensorValue> values;
  for (const auto& element : given) {
    values.emplace_back(static_cast<Wide>(element));
    if (absl::Status status = CheckRange(field, *head.type, values.back()); !status.ok()) {
      return status;
    }
  }
  return values;
}

absl::StatusOr<std::vector<TensorValue>> ReadUnsigned(absl::string_view field,
                                                      const TensorHead& head,
                                                      const InferTensorContents& contents) {
  if (head.type->bytes < 8) return ReadField<int64_t>(field, head, contents.uint_contents());
  auto values = ReadField<uint64_t>(field, head, contents.uint64_contents());
  if (!values.ok()) return values;
  for (TensorValue& value : *values) {
    const uint64_t number = std::get<uint64_t>(value);
    if (number <= INT64_MAX) value = static_cast<int64_t>(number);
  }
  return values;
}

// The one field that a datatype has.
absl::StatusOr<std::vector<TensorValue>> ReadTyped(absl::string_view field, const TensorHead& head,
                                                   const InferTensorContents& contents) {
  switch (head.type->kind) {
    case ValueKind::kBool:
      return ReadField<bool>(field, head, contents.bool_contents());
    case ValueKind::kSigned:
      if (head.type->bytes == 8) return ReadField<int64_t>(field, head, contents.int64_contents());
      return ReadField<int64_t>(field, head, contents.int_contents());
    case ValueKind::kUnsigned:
      return ReadUnsigned(field, head, contents);
    case ValueKind::kReal:
      if (head.type->bytes == 8) return ReadField<double>(field, head, contents.fp64_contents());
      return ReadField<double>(field, head, contents.fp32_contents());
    case ValueKind::kBytes:
      break;
  }
  return ReadField<std::string>(field, head, contents.bytes_contents());
}

int64_t Elements(const InferTensorContents& contents) {
  int64_t count = 0;
  for (const int field : {contents.bool_contents_size(), contents.int_contents_size(),
                          contents.int64_contents_size(), contents.uint_contents_size(),
                          contents.uint64_contents_size(), contents.fp32_contents_size(),
                          contents.fp64_contents_size(), contents.bytes_contents_size()}) {
    count += field;
  }
  return count;
}

// `raw`: its bytes; null: it has contents.
absl::StatusOr<NamedValues> ReadInput(const std::string& field, const InferInputTensor& input,
                                      const std::string* raw) {
  const absl::StatusOr<TensorHead> head = ReadHead(field, input.datatype(), input.shape());
  if (!head.ok()) return head.status();
  const int64_t elements = Elements(input.contents());
  if (raw != nullptr && elements > 0) {
    return FieldError(absl::StrCat(field, ".contents"), "be empty beside raw_input_contents",
                      elements);
  }
  absl::StatusOr<std::vector<TensorValue>> values =
      raw != nullptr ? ReadRaw(field, *head, *raw) : ReadTyped(field, *head, input.contents());
  if (!values.ok()) return values.status();
  if (raw == nullptr && elements != head->count) {
    return FieldError(absl::StrCat(field, ".contents"),
                      absl::StrCat("have elements of ", head->type->name, " only"), elements);
  }
  return NamedValues{input.name(), *std::move(values)};
}

absl::Status ReadInputs(const ModelInferRequest& message, InferRequest* request) {
  if (absl::Status status = CheckCount("inputs", message.inputs(), kMaxInputs); !status.ok()) {
    return status;
  }
  const bool raw = message.raw_input_contents_size() > 0;
  if (raw && message.raw_input_contents_size() != message.inputs_size()) {
    return FieldError("raw_input_contents",
                      absl::StrCat("have as many entries as inputs (", message.inputs_size(), ")"),
                      message.raw_input_contents_size());
  }
  for (int i = 0; i < message.inputs_size(); ++i) {
    absl::StatusOr<NamedValues> input =
        ReadInput(absl::StrCat("inputs[", i, "]"), message.inputs(i),
                  raw ? &message.raw_input_contents(i) : nullptr);
    if (!input.ok()) return input.status();
    request->inputs.push_back(*std::move(input));
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorValue> ReadParameter(absl::string_view name, const InferParameter& parameter) {
  switch (parameter.parameter_choice_case()) {
    case InferParameter::kBoolParam:
      return parameter.bool_param();
    case InferParameter::kInt64Param:
      return parameter.int64_param();
    case InferParameter::kStringParam:
      return parameter.string_param();
    case InferParameter::kDoubleParam:
      return parameter.double_param();
    case InferParameter::kUint64Param:
      if (parameter.uint64_param() > INT64_MAX) return parameter.uint64_param();
      return static_cast<int64_t>(parameter.uint64_param());
    case InferParameter::PARAMETER_CHOICE_NOT_SET:
      break;
  }
  return FieldError("parameters", "have a value each", name);
}

absl::Status ReadParameters(const ModelInferRequest& message, InferRequest* request) {
  if (absl::Status status = CheckCount("parameters", message.parameters(), kMaxParameters);
      !status.ok()) {
    return status;
  }
  for (const auto& [name, parameter] : message.parameters()) {
    absl::StatusOr<TensorValue> value = ReadParameter(name, parameter);
    if (!value.ok()) return value.status();
    request->parameters.push_back({name, {*std::move(value)}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<InferRequest> FromMessage(const ModelInferRequest& message) {
  InferRequest request;
  request.model = message.model_name();
  request.version = message.model_version();
  request.id = message.id();
  if (absl::Status status = ReadInputs(message, &request); !status.ok()) return status;
  if (absl::Status status = ReadParameters(message, &request); !status.ok()) return status;
  if (absl::Status status = CheckCount("outputs", message.outputs(), kMaxInputs); !status.ok()) {
    return status;
  }
  for (const auto& output : message.outputs()) request.outputs.push_back(output.name());
  return request;
}

InferEcho EchoOf(const ModelInferRequest& message) {
  // One that is too long is refused, and said again in no answer: those may have to wait.
  const bool fits = message.id().size() <= static_cast<size_t>(kMaxLabelBytes);
  return {fits ? message.id() : std::string(), message.raw_input_contents_size() > 0};
}

void StartMessage(const InferEcho& echo, const ServedModel& model, Finality finality,
                  inference::ModelInferResponse* message) {
  message->set_id(echo.id);
  message->set_model_name(model.name());
  message->set_model_version(kOnlyVersion);
  if (finality == Finality::kUnsaid) return;
  (*message->mutable_parameters())["triton_final_response"].set_bool_param(finality ==
                                                                           Finality::kFinal);
}

void ToMessage(const AnswerDelta& delta, const InferEcho& echo, const ServedModel& model,
               Finality finality, inference::ModelInferResponse* message) {
  StartMessage(echo, model, finality, message);
  auto* output = message->add_outputs();
  output->set_name(kTextOutput);
  output->set_datatype("BYTES");
  output->add_shape(1);
  if (echo.raw) {
    message->add_raw_output_contents(RawBytes(delta.text));
  } else {
    output->mutable_contents()->add_bytes_contents(delta.text);
  }
  if (delta.finish == FinishReason::kNone) return;
  auto& parameters = *message->mutable_parameters();
  parameters["finish_reason"].set_string_param(FinishName(delta.finish));
  parameters["prompt_tokens"].set_int64_param(delta.prompt_tokens);
  parameters["completion_tokens"].set_int64_param(delta.completion_tokens);
}

void ToMessage(const ServedModel& model, inference::ModelMetadataResponse* message) {
  message->set_name(model.name());
  message->add_versions(std::string(kOnlyVersion));
  message->set_platform(kServerName);
  auto fill = [](const std::vector<TensorMetadata>& tensors, auto* list) {
    for (const TensorMetadata& tensor : tensors) {
      auto* to = list->Add();
      to->set_name(tensor.name);
      to->set_datatype(tensor.datatype);
      to->add_shape(tensor.size);
    }
  };
  fill(InputMetadata(), message->mutable_inputs());
  fill(OutputMetadata(), message->mutable_outputs());
}

void FillServerMetadata(inference::ServerMetadataResponse* message) {
  message->set_name(kServerName);
  message->set_version(PREGATE_VERSION);
  for (const char* extension : ServerExtensions()) message->add_extensions(extension);
}

}  // namespace pregate
