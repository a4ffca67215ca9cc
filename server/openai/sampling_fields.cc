#include "server/openai/sampling_fields.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "server/openai/unserved_fields.h"

namespace pregate {
namespace {

using nlohmann::json;

constexpr int64_t kMaxId = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxIdDigits = 10;

void ReadStop(JsonFields* fields, ClientRequest* request) {
  const json* stop = fields->Find("stop");
  if (stop == nullptr) return;
  std::vector<absl::string_view> strings;
  if (stop->is_string()) {
    strings.push_back(stop->get_ref<const std::string&>());
  } else if (stop->is_array()) {
    if (absl::Status status = CheckCount("stop", *stop, kMaxStopStrings); !status.ok()) {
      return fields->Fail(status);
    }
    for (const json& one : *stop) {
      if (!one.is_string()) {
        return fields->Fail(
            JsonFieldError(absl::StrCat("stop[", strings.size(), "]"), "be a string", one));
      }
      strings.push_back(one.get_ref<const std::string&>());
    }
  } else {
    return fields->Fail(JsonFieldError("stop", "be a string or a list of strings", *stop));
  }
  absl::StatusOr<std::vector<std::string>> checked = ReadStopStrings(strings);
  if (!checked.ok()) return fields->Fail(checked.status());
  request->stop = *std::move(checked);
}

void ReadStopIds(JsonFields* fields, ClientRequest* request) {
  const json* ids = fields->Find("stop_token_ids");
  if (ids == nullptr) return;
  request->stop_ids = ReadJsonIds(fields, "stop_token_ids", *ids, kMaxStopIds);
}

// {"50256": -100}: ids are keys, hence strings.
void ReadLogitBias(JsonFields* fields, ClientRequest* request) {
  const json* biases = fields->Find("logit_bias");
  if (biases == nullptr) return;
  if (!biases->is_object()) {
    return fields->Fail(JsonFieldError("logit_bias", "be an object", *biases));
  }
  if (absl::Status status = CheckCount("logit_bias", *biases, kMaxLogitBias); !status.ok()) {
    return fields->Fail(status);
  }
  JsonFields values(biases, "logit_bias.");
  for (const auto& [key, value] : biases->items()) {
    int32_t id = 0;
    if (key.size() > kMaxIdDigits || !absl::SimpleAtoi(key, &id) || id < 0) {
      return fields->Fail(
          FieldError("logit_bias", absl::StrCat("be keyed by integers in [0, ", kMaxId, "]"), key));
    }
    float bias = 0;
    values.Real(key.c_str(), &bias);
    request->sampling.logit_bias.emplace_back(id, bias);
  }
  fields->Fail(values.status());
  // Two keys may be the same number, "1" and "01": an answer must not depend on their order.
  std::sort(request->sampling.logit_bias.begin(), request->sampling.logit_bias.end());
}

}  // namespace

void ReadSampling(JsonFields* fields, ClientRequest* request) {
  SamplingParams& sampling = request->sampling;
  fields->Text("model", &request->model);
  fields->Integer("n", &request->n);
  fields->Integer("min_tokens", &request->min_tokens);
  fields->Real("temperature", &sampling.temperature);
  fields->Integer("top_k", &sampling.top_k);
  fields->Real("top_p", &sampling.top_p);
  fields->Real("min_p", &sampling.min_p);
  fields->Real("typical_p", &sampling.typical_p);
  fields->Real("repetition_penalty", &sampling.repetition_penalty);
  fields->Real("presence_penalty", &sampling.presence_penalty);
  fields->Real("frequency_penalty", &sampling.frequency_penalty);
  fields->Seed("seed", &request->seed);
  fields->Bool("ignore_eos", &request->ignore_eos);
  fields->Integer("priority", &request->priority);
  fields->Text("cache_salt", &request->tenant);
  ReadStop(fields, request);
  ReadStopIds(fields, request);
  ReadLogitBias(fields, request);
}

StreamFields ReadStream(JsonFields* fields) {
  StreamFields stream;
  fields->Bool("stream", &stream.stream);
  const json* options = fields->Find("stream_options");
  if (options == nullptr) return stream;
  if (!options->is_object() || !stream.stream) {
    fields->Fail(JsonFieldError("stream_options", "be an object, with `stream` true", *options));
    return stream;
  }
  JsonFields of_stream(options, "stream_options.");
  of_stream.Bool("include_usage", &stream.include_usage);
  fields->Fail(of_stream.status());
  return stream;
}

void ReadLogprobIds(JsonFields* fields, ClientRequest* request) {
  const json* ids = fields->Find("logprob_token_ids");
  if (ids == nullptr) return;
  request->sampling.logprob_token_ids =
      ReadJsonIds(fields, "logprob_token_ids", *ids, kMaxLogprobIds);
  if (!request->logprobs.has_value()) request->logprobs = 0;
}

bool ReadPromptLogprobs(JsonFields* fields, const StreamFields& stream, ClientRequest* request) {
  fields->Integer("prompt_logprobs", &request->prompt_logprobs);
  if (!request->prompt_logprobs.has_value()) return false;
  if (stream.stream) {
    fields->Fail(UnservedError("prompt_logprobs", "be absent in a stream, it is not served there",
                               *request->prompt_logprobs));
  }
  return true;
}

std::vector<int32_t> ReadJsonIds(JsonFields* fields, absl::string_view name, const json& list,
                                 int64_t most) {
  if (!list.is_array()) {
    fields->Fail(JsonFieldError(name, "be a list of token ids", list));
    return {};
  }
  if (absl::Status status = CheckCount(name, list, most); !status.ok()) {
    fields->Fail(status);
    return {};
  }
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const json& value : list) {
    const bool fits =
        value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(kMaxId);
    if (!fits) {
      fields->Fail(JsonFieldError(absl::StrCat(name, "[", ids.size(), "]"),
                                  absl::StrCat("be an integer in [0, ", kMaxId, "]"), value));
      return {};
    }
    ids.push_back(value.get<int32_t>());
  }
  return ids;
}

}  // namespace pregate
