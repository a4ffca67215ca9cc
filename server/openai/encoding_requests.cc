#include "server/openai/encoding_requests.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/generation/client_request.h"
#include "server/openai/json_body.h"
#include "server/openai/json_fields.h"
#include "server/openai/sampling_fields.h"
#include "server/openai/unserved_fields.h"

namespace pregate {
namespace {

using nlohmann::json;

constexpr absl::string_view kInputRule =
    "be a string, a list of strings, a list of token ids or a list of such lists";

void ReadInputs(JsonFields* fields, std::vector<TextOrIds>* inputs) {
  const json* input = fields->Find("input");
  if (input == nullptr) return fields->Fail(JsonFieldError("input", kInputRule, nullptr));
  if (input->is_string()) {
    inputs->emplace_back(input->get<std::string>());
    return;
  }
  if (!input->is_array() || input->empty()) {
    return fields->Fail(JsonFieldError("input", kInputRule, *input));
  }
  if (input->front().is_number()) {
    inputs->emplace_back(ReadJsonIds(fields, "input", *input, kMaxInputIds));
    return;
  }
  if (absl::Status status = CheckCount("input", *input, kMaxInputs); !status.ok()) {
    return fields->Fail(status);
  }
  for (const json& one : *input) {
    const std::string name = absl::StrCat("input[", inputs->size(), "]");
    if (one.is_string()) {
      inputs->emplace_back(one.get<std::string>());
    } else if (one.is_array()) {
      inputs->emplace_back(ReadJsonIds(fields, name, one, kMaxInputIds));
    } else {
      fields->Fail(JsonFieldError(name, "be a string or a list of token ids", one));
    }
    if (!fields->status().ok()) return;
  }
}

// One of `words`, at whose place is the value.
template <typename T, size_t kWords>
void ReadWord(JsonFields* fields, const char* field,
              const std::pair<absl::string_view, T> (&words)[kWords], T* to) {
  if (fields->Find(field) == nullptr) return;
  std::string word, rule = "be one of";
  fields->Text(field, &word);
  if (!fields->status().ok()) return;
  for (const auto& [name, value] : words) {
    if (name == word) {
      *to = value;
      return;
    }
    absl::StrAppend(&rule, rule == "be one of" ? " " : ", ", name);
  }
  fields->Fail(FieldError(field, rule, word));
}

// vLLM's -1 means as many as fit; other numbers are not served.
void ReadTruncation(JsonFields* fields, bool* truncate) {
  fields->Bool("truncate", truncate);
  std::optional<int64_t> tokens;
  fields->Integer("truncate_prompt_tokens", &tokens);
  if (!tokens.has_value()) return;
  if (*tokens != -1) {
    return fields->Fail(UnservedError("truncate_prompt_tokens",
                                      "be absent or -1, anything else is not served", *tokens));
  }
  *truncate = true;
}

void RefuseField(JsonFields* fields, const char* field) {
  const json* found = fields->Find(field);
  if (found != nullptr) {
    fields->Fail(UnservedError(field, "be absent, it is not served", *found));
  }
}

void AppendVector(const std::vector<float>& vector, bool base64, std::string* to) {
  if (base64) {
    static_assert(std::endian::native == std::endian::little);
    std::string bytes(vector.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), vector.data(), bytes.size());
    absl::StrAppend(to, "\"", absl::Base64Escape(bytes), "\"");
    return;
  }
  *to += '[';
  for (size_t i = 0; i < vector.size(); ++i) {
    absl::StrAppendFormat(to, "%s%.9g", i == 0 ? "" : ",", vector[i]);
  }
  *to += ']';
}

}  // namespace

absl::StatusOr<EmbeddingsRequest> ReadEmbeddingsRequest(const json& body) {
  static constexpr std::pair<absl::string_view, bool> kFormats[] = {{"float", false},
                                                                    {"base64", true}};
  static constexpr std::pair<absl::string_view, InputKind> kKinds[] = {
      {"query", InputKind::kQuery},
      {"passage", InputKind::kPassage},
      {"document", InputKind::kPassage},
      {"search_query", InputKind::kQuery},
      {"search_document", InputKind::kPassage}};
  EmbeddingsRequest request;
  EmbedAsk& ask = request.ask;
  ask.field = std::string("input");
  ask.normalize = true;
  JsonFields fields(&body);
  fields.Text("model", &ask.caller.model);
  for (const char* field : {"messages", "embed_dtype", "endianness"}) RefuseField(&fields, field);
  ReadWord(&fields, "encoding_format", kFormats, &request.base64);
  ReadWord(&fields, "input_type", kKinds, &ask.kind);
  fields.Integer("dimensions", &ask.dimensions);
  fields.Bool("normalize", &ask.normalize);
  fields.Integer("priority", &ask.caller.priority);
  fields.Text("cache_salt", &ask.caller.tenant);
  ReadTruncation(&fields, &ask.truncate);
  ReadInputs(&fields, &ask.inputs);
  if (!fields.status().ok()) return fields.status();
  return request;
}

absl::StatusOr<RerankRequest> ReadRerankRequest(const json& body) {
  RerankRequest request;
  ScoreAsk& ask = request.ask;
  JsonFields fields(&body);
  fields.Text("model", &ask.caller.model);
  fields.Text("query", &ask.query);
  for (const char* field : {"rank_fields", "max_chunks_per_doc", "max_tokens_per_doc"}) {
    RefuseField(&fields, field);
  }
  fields.Integer("top_n", &request.top_n);
  if (fields.Find("top_n") != nullptr && request.top_n < 1) {
    fields.Fail(FieldError("top_n", "be >= 1", request.top_n));
  }
  fields.Bool("return_documents", &request.return_documents);
  bool raw_scores = false;
  fields.Bool("raw_scores", &raw_scores);
  ask.sigmoid = !raw_scores;
  fields.Integer("priority", &ask.caller.priority);
  fields.Text("cache_salt", &ask.caller.tenant);
  ReadTruncation(&fields, &ask.truncate);
  const json* documents = fields.Find("documents");
  if (documents == nullptr || !documents->is_array()) {
    fields.Fail(JsonFieldError("documents", "be a list of strings or of objects with text",
                               documents == nullptr ? json() : *documents));
  }
  if (!fields.status().ok()) return fields.status();
  if (absl::Status status = CheckCount("documents", *documents, kMaxInputs); !status.ok()) {
    return status;
  }
  for (const json& document : *documents) {
    const json& text =
        document.is_object() && document.contains("text") ? document["text"] : document;
    if (!text.is_string()) {
      return JsonFieldError(absl::StrCat("documents[", ask.documents.size(), "]"),
                            "be a string or an object with text", document);
    }
    ask.documents.push_back(text.get<std::string>());
  }
  return request;
}

std::string EmbeddingsAnswer(const std::string& model, bool base64, const EncodingResult& result) {
  std::string body = "{\"object\":\"list\",\"data\":[";
  for (size_t i = 0; i < result.vectors.size(); ++i) {
    absl::StrAppend(&body, i == 0 ? "" : ",", "{\"object\":\"embedding\",\"index\":", i,
                    ",\"embedding\":");
    AppendVector(result.vectors[i], base64, &body);
    body += '}';
  }
  absl::StrAppend(&body, "],\"model\":", JsonText(model),
                  ",\"usage\":{\"prompt_tokens\":", result.tokens,
                  ",\"total_tokens\":", result.tokens, "}}");
  return body;
}

std::string RerankAnswer(const std::string& id, const std::string& model, int64_t top_n,
                         const std::vector<std::string>& documents, const EncodingResult& result) {
  std::vector<size_t> order(result.scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return result.scores[a] > result.scores[b]; });
  if (top_n > 0 && top_n < std::ssize(order)) order.resize(static_cast<size_t>(top_n));
  std::string body = absl::StrCat("{\"id\":", JsonText(id), ",\"model\":", JsonText(model),
                                  ",\"usage\":{\"prompt_tokens\":", result.tokens,
                                  ",\"total_tokens\":", result.tokens, "},\"results\":[");
  for (const size_t index : order) {
    absl::StrAppendFormat(&body, "%s{\"index\":%d,\"relevance_score\":%.9g",
                          index == order.front() ? "" : ",", index, result.scores[index]);
    if (!documents.empty()) {
      absl::StrAppend(&body, ",\"document\":{\"text\":", JsonText(documents[index]), "}");
    }
    body += '}';
  }
  body += "]}";
  return body;
}

}  // namespace pregate
