#include "server/open_inference/infer_request.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <set>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

namespace pregate {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

struct Prompt {};
// Where a setting goes.
using Target = std::variant<Prompt, int64_t ClientRequest::*, int32_t SamplingParams::*,
                            float SamplingParams::*, std::optional<uint64_t> ClientRequest::*,
                            bool ClientRequest::*, std::vector<std::string> ClientRequest::*>;

struct Setting {
  const char* name;
  const char* datatype;
  int64_t size;
  Target target;
};

const Setting kSettings[] = {
    {"text_input", "BYTES", 1, Prompt()},
    {"max_tokens", "INT32", 1, &ClientRequest::max_tokens},
    {"min_tokens", "INT32", 1, &ClientRequest::min_tokens},
    {"temperature", "FP32", 1, &SamplingParams::temperature},
    {"top_k", "INT32", 1, &SamplingParams::top_k},
    {"top_p", "FP32", 1, &SamplingParams::top_p},
    {"min_p", "FP32", 1, &SamplingParams::min_p},
    {"typical_p", "FP32", 1, &SamplingParams::typical_p},
    {"repetition_penalty", "FP32", 1, &SamplingParams::repetition_penalty},
    {"presence_penalty", "FP32", 1, &SamplingParams::presence_penalty},
    {"frequency_penalty", "FP32", 1, &SamplingParams::frequency_penalty},
    {"seed", "UINT64", 1, &ClientRequest::seed},
    {"stop", "BYTES", -1, &ClientRequest::stop},
    {"ignore_eos", "BOOL", 1, &ClientRequest::ignore_eos},
    {"stream", "BOOL", 1, &ClientRequest::stream},
};

// What the model can do and this protocol has no place for.
constexpr const char* kElsewhere[] = {"n",          "best_of",        "logprobs", "prompt_logprobs",
                                      "logit_bias", "stop_token_ids", "choice",   "grammar",
                                      "regex",      "json_schema",    "echo",     "sequence_id",
                                      "tools",      "response_format"};

const Setting* Find(absl::string_view name) {
  for (const Setting& setting : kSettings) {
    if (name == setting.name) return &setting;
  }
  return nullptr;
}

absl::Status Wrong(absl::string_view field, absl::string_view rule, const TensorValue& got) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": must ", rule, "; got ", Shown(got)));
}

absl::Status ReadInteger(absl::string_view name, const TensorValue& value, int64_t low,
                         int64_t high, int64_t* to) {
  const auto* number = std::get_if<int64_t>(&value);
  if (number == nullptr && !std::holds_alternative<uint64_t>(value)) {
    return Wrong(name, "be an integer", value);
  }
  if (number == nullptr || *number < low || *number > high) {
    return Wrong(name, absl::StrCat("be in [", low, ", ", high, "]"), value);
  }
  *to = *number;
  return absl::OkStatus();
}

// Puts values into the request, each kind in its way.
struct Store {
  absl::string_view name;
  std::vector<TensorValue>& values;
  ClientRequest* request;

  absl::Status operator()(Prompt) {
    auto* text = std::get_if<std::string>(&values[0]);
    if (text == nullptr) return Wrong(name, "be BYTES", values[0]);
    request->prompt = std::move(*text);
    return absl::OkStatus();
  }
  absl::Status operator()(int64_t ClientRequest::*field) {
    return ReadInteger(name, values[0], std::numeric_limits<int64_t>::min(),
                       std::numeric_limits<int64_t>::max(), &(request->*field));
  }
  absl::Status operator()(int32_t SamplingParams::*field) {
    int64_t number = 0;
    absl::Status status = ReadInteger(name, values[0], -kMaxInt32 - 1, kMaxInt32, &number);
    if (status.ok()) request->sampling.*field = static_cast<int32_t>(number);
    return status;
  }
  absl::Status operator()(float SamplingParams::*field) {
    if (const auto* real = std::get_if<double>(&values[0])) {
      request->sampling.*field = static_cast<float>(*real);
    } else if (const auto* whole = std::get_if<int64_t>(&values[0])) {
      request->sampling.*field = static_cast<float>(*whole);
    } else {
      return Wrong(name, "be a number", values[0]);
    }
    return absl::OkStatus();
  }
  absl::Status operator()(std::optional<uint64_t> ClientRequest::*field) {
    if (const auto* large = std::get_if<uint64_t>(&values[0])) {
      request->*field = *large;
      return absl::OkStatus();
    }
    int64_t number = 0;
    absl::Status status =
        ReadInteger(name, values[0], 0, std::numeric_limits<int64_t>::max(), &number);
    if (status.ok()) request->*field = static_cast<uint64_t>(number);
    return status;
  }
  absl::Status operator()(bool ClientRequest::*field) {
    const auto* flag = std::get_if<bool>(&values[0]);
    if (flag == nullptr) return Wrong(name, "be BOOL", values[0]);
    request->*field = *flag;
    return absl::OkStatus();
  }
  absl::Status operator()(std::vector<std::string> ClientRequest::*field) {
    std::vector<std::string> texts;
    for (TensorValue& value : values) {
      auto* text = std::get_if<std::string>(&value);
      if (text == nullptr) return Wrong(name, "be BYTES", value);
      texts.push_back(std::move(*text));
    }
    absl::StatusOr<std::vector<std::string>> stop = ReadStopStrings(texts);
    if (!stop.ok()) return stop.status();
    request->*field = *std::move(stop);
    return absl::OkStatus();
  }
};

absl::Status Set(const Setting& setting, NamedValues& given, ClientRequest* request) {
  const int64_t count = static_cast<int64_t>(given.values.size());
  if (setting.size >= 0 && count != setting.size) {
    return FieldError(given.name, absl::StrCat("have ", setting.size, " element"), count);
  }
  return std::visit(Store{given.name, given.values, request}, setting.target);
}

absl::Status RefuseElsewhere(absl::string_view name) {
  for (const char* other : kElsewhere) {
    if (name != other) continue;
    return absl::UnimplementedError(
        absl::StrCat(name, ": must be absent, this protocol does not serve it; got one"));
  }
  return absl::OkStatus();
}

// Parameters that are no settings. Those of other servers' own are ignored.
absl::Status ReadParameter(const NamedValues& given, ClientRequest* request) {
  int64_t number = 0;
  const bool is_ours = given.name == "timeout" || given.name == "priority";
  if (is_ours && given.values.size() != 1) {
    return FieldError(given.name, "be one number", static_cast<int64_t>(given.values.size()));
  }
  if (given.name == "timeout") {
    absl::Status status =
        ReadInteger(given.name, given.values[0], 0, std::numeric_limits<int64_t>::max(), &number);
    // 0 is Triton's "none".
    if (status.ok() && number > 0) request->deadline = absl::Now() + absl::Microseconds(number);
    return status;
  }
  if (given.name == "priority") {
    absl::Status status =
        ReadInteger(given.name, given.values[0], -kMaxInt32 - 1, kMaxInt32, &number);
    if (status.ok()) request->priority = static_cast<int32_t>(number);
    return status;
  }
  return RefuseElsewhere(given.name);
}

absl::Status ReadSettings(InferRequest& from, ClientRequest* request) {
  std::set<std::string> seen;
  for (size_t i = 0; i < from.inputs.size(); ++i) {
    NamedValues& input = from.inputs[i];
    if (absl::Status status = RefuseElsewhere(input.name); !status.ok()) return status;
    const Setting* setting = Find(input.name);
    const std::string field = absl::StrCat("inputs[", i, "].name");
    if (setting == nullptr) {
      return FieldError(field, "be that of an input in ModelMetadata", input.name);
    }
    if (!seen.insert(input.name).second) {
      return FieldError(field, "be given once", input.name);
    }
    if (absl::Status status = Set(*setting, input, request); !status.ok()) return status;
  }
  for (NamedValues& parameter : from.parameters) {
    const Setting* setting = Find(parameter.name);
    absl::Status status;
    if (setting == nullptr) {
      status = ReadParameter(parameter, request);
    } else if (!seen.insert(parameter.name).second) {
      status = FieldError(absl::StrCat("parameters.", setting->name),
                          "not be given as an input too", parameter.name);
    } else {
      status = Set(*setting, parameter, request);
    }
    if (!status.ok()) return status;
  }
  if (seen.count("text_input") == 0) {
    return absl::InvalidArgumentError("text_input: must be an input; got none");
  }
  return absl::OkStatus();
}

absl::Status CheckOutputs(const std::vector<std::string>& outputs) {
  if (outputs.empty()) return absl::OkStatus();
  if (outputs[0] != kTextOutput) {
    return FieldError("outputs[0].name", absl::StrCat("be ", kTextOutput), outputs[0]);
  }
  if (outputs.size() > 1) {
    return FieldError("outputs", "have at most 1 entry", static_cast<int64_t>(outputs.size()));
  }
  return absl::OkStatus();
}

absl::Status CheckVersion(absl::string_view version) {
  if (version.empty() || version == kOnlyVersion) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("model_version: must be \"", kOnlyVersion,
                                          "\" or empty; got ", Quoted(version)));
}

}  // namespace

absl::StatusOr<ClientRequest> ToClientRequest(InferRequest request, InferMethod method) {
  if (absl::Status status = CheckVersion(request.version); !status.ok()) return status;
  if (absl::Status status = CheckOutputs(request.outputs); !status.ok()) return status;
  ClientRequest wanted;
  wanted.stream = method == InferMethod::kStreamInfer;
  if (absl::Status status = ReadSettings(request, &wanted); !status.ok()) return status;
  if (wanted.stream && method == InferMethod::kInfer) {
    return absl::InvalidArgumentError(
        "stream: must be false where a request has one response; got true");
  }
  wanted.model = std::move(request.model);
  wanted.request_id = std::move(request.id);
  return wanted;
}

absl::Status InOwnWords(const absl::Status& status) {
  constexpr std::pair<absl::string_view, absl::string_view> kNames[] = {
      {"text: ", "text_input: "}, {"model: ", "model_name: "}, {"request_id: ", "id: "}};
  for (const auto& [ours, theirs] : kNames) {
    if (!absl::StartsWith(status.message(), ours)) continue;
    return absl::Status(status.code(),
                        absl::StrCat(theirs, absl::StripPrefix(status.message(), ours)));
  }
  return status;
}

bool IsInput(absl::string_view name) { return Find(name) != nullptr; }

bool HasFlag(const InferRequest& request, absl::string_view name) {
  for (const NamedValues& parameter : request.parameters) {
    if (parameter.name != name) continue;
    const auto* flag = std::get_if<bool>(&parameter.values[0]);
    return flag != nullptr && *flag;
  }
  return false;
}

absl::Status CheckModel(const ServedModel& model, absl::string_view name,
                        absl::string_view version) {
  if (name != model.name()) {
    return absl::NotFoundError(
        absl::StrCat("model_name: must be that of the model served; got ", Quoted(name)));
  }
  return CheckVersion(version);
}

std::vector<TensorMetadata> InputMetadata() {
  std::vector<TensorMetadata> inputs;
  for (const Setting& setting : kSettings) {
    inputs.push_back({setting.name, setting.datatype, setting.size});
  }
  return inputs;
}

std::vector<TensorMetadata> OutputMetadata() { return {{kTextOutput, "BYTES", 1}}; }

absl::Span<const char* const> ServerExtensions() {
  static constexpr const char* kExtensions[] = {"binary_tensor_data", "parameters"};
  return kExtensions;
}

}  // namespace pregate
