#include "server/openai/token_routes.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/openai/answer_words.h"
#include "server/openai/chat_request.h"
#include "server/openai/json_body.h"
#include "server/openai/openai_error.h"
#include "server/openai/sampling_fields.h"

namespace pregate {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

ordered_json ModelJson(const ServedModel& model, int64_t created) {
  return {{"id", model.name()},
          {"object", "model"},
          {"created", created},
          {"owned_by", "pregate"},
          {"max_model_len", model.engine().model().max_model_len},
          {"capabilities", model.capabilities()}};
}

absl::StatusOr<ordered_json> FindModel(const ServedModel& model, const std::string& id,
                                       int64_t created) {
  if (id == model.name()) return ModelJson(model, created);
  return absl::NotFoundError(
      absl::StrCat("model: must be one that /v1/models names; got ", Quoted(id)));
}

absl::StatusOr<std::vector<int32_t>> TokensOf(const ServedModel& model, const json& body) {
  JsonFields fields(&body);
  ClientRequest request;
  std::string prompt;
  Tokenizer::EncodeOptions options;
  fields.Text("model", &request.model);
  fields.Text("prompt", &prompt);
  fields.Bool("add_special_tokens", &options.add_special);
  const json* messages = fields.Find("messages");
  if (messages != nullptr) request.prompt = ReadMessages(&fields, *messages);
  if (!fields.status().ok()) return fields.status();
  if (messages == nullptr) {
    if (fields.Find("prompt") == nullptr) {
      return JsonFieldError("prompt", "be given, or `messages`", nullptr);
    }
    return model.Tokenize(request.model, prompt, options);
  }
  absl::StatusOr<GenerationRequest> rendered = model.Translate(std::move(request));
  if (!rendered.ok()) return rendered.status();
  return std::move(rendered->prompt);
}

absl::StatusOr<ordered_json> Tokenize(const ServedModel& model, const json& body) {
  const absl::StatusOr<std::vector<int32_t>> ids = TokensOf(model, body);
  if (!ids.ok()) return ids.status();
  JsonFields fields(&body);
  bool with_names = false;
  fields.Bool("return_token_strs", &with_names);
  if (!fields.status().ok()) return fields.status();
  ordered_json names;  // null
  if (with_names) names = ordered_json::array();
  for (size_t i = 0; with_names && i < ids->size(); ++i) {
    names.push_back(TokenName(model.tokenizer(), (*ids)[i]));
  }
  return ordered_json{{"count", ids->size()},
                      {"max_model_len", model.engine().model().max_model_len},
                      {"tokens", *ids},
                      {"token_strs", std::move(names)}};
}

absl::StatusOr<ordered_json> Detokenize(const ServedModel& model, const json& body) {
  JsonFields fields(&body);
  std::string name;
  fields.Text("model", &name);
  const json* tokens = fields.Find("tokens");
  const std::vector<int32_t> ids =
      ReadJsonIds(&fields, "tokens", tokens == nullptr ? json() : *tokens, kMaxJsonValues);
  if (!fields.status().ok()) return fields.status();
  absl::StatusOr<std::string> text = model.Detokenize(name, ids, /*show_special=*/false);
  if (!text.ok()) return text.status();
  return ordered_json{{"prompt", *std::move(text)}};
}

void Answer(HttpExchange* exchange, const absl::StatusOr<ordered_json>& answer) {
  if (!answer.ok()) return exchange->Respond(HttpRefusal(answer.status(), OpenAiError));
  HttpResponse response;
  response.body = Dump(*answer);
  exchange->Respond(std::move(response));
}

// A route whose answer is a function of its body.
HttpRoute BodyRoute(const char* path, const ServedModel* model,
                    absl::StatusOr<ordered_json> (*answer)(const ServedModel&, const json&)) {
  HttpRoute route;
  route.method = "POST";
  route.path = path;
  route.error = OpenAiError;
  route.handler = [model, answer](const std::shared_ptr<HttpExchange>& exchange) {
    const absl::StatusOr<json> body = ParseJsonBody(exchange->request().body);
    if (!body.ok()) return Answer(exchange.get(), body.status());
    Answer(exchange.get(), answer(*model, *body));
  };
  return route;
}

}  // namespace

std::vector<HttpRoute> TokenRoutes(const ServedModel* model) {
  const int64_t created = absl::ToUnixSeconds(absl::Now());
  HttpRoute list;
  list.method = "GET";
  list.path = "/v1/models";
  list.error = OpenAiError;
  list.handler = [model, created](const std::shared_ptr<HttpExchange>& exchange) {
    Answer(exchange.get(),
           ordered_json{{"object", "list"},
                        {"data", ordered_json::array({ModelJson(*model, created)})}});
  };
  HttpRoute one = list;
  one.path = "/v1/models/{id...}";
  one.handler = [model, created](const std::shared_ptr<HttpExchange>& exchange) {
    Answer(exchange.get(), FindModel(*model, exchange->request().params[0], created));
  };
  return {std::move(list), std::move(one), BodyRoute("/tokenize", model, Tokenize),
          BodyRoute("/detokenize", model, Detokenize)};
}

}  // namespace pregate
