#include "server/open_inference/http_routes.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/open_inference/json_form.h"
#include "server/openai/request_deadline.h"

namespace pregate {
namespace {

using Exchange = std::shared_ptr<HttpExchange>;

HttpResponse Error(int http_status, const absl::Status& status) {
  HttpResponse response;
  response.status = http_status;
  response.body = ErrorJson(status);
  return response;
}

// The model that a path names, and the version if it does.
absl::Status CheckPath(const HttpEnvironment& environment, const HttpRequest& request) {
  const std::vector<std::string>& params = request.params;
  return CheckModel(*environment.model, params[0], params.size() > 1 ? params[1] : "");
}

// One JSON document, with the tensor behind it where that was asked for.
class InferFormat : public AnswerFormat {
 public:
  InferFormat(const ServedModel* model, std::string id, bool binary)
      : model_(model), id_(std::move(id)), binary_(binary) {}

  std::string Add(int /*prompt*/, AnswerDelta delta) override {
    response_ = InferResponse(delta, id_, model_->name(), binary_);
    return "";
  }
  std::string End(const absl::Status& /*status*/) override {
    return absl::StrCat(response_.json, response_.bytes);
  }
  void Complete(HttpResponse* response) override {
    if (!binary_) return;
    response->content_type = "application/octet-stream";
    response->headers.emplace_back(kJsonLengthHeader, absl::StrCat(response_.json.size()));
  }

 private:
  const ServedModel* const model_;
  const std::string id_;
  const bool binary_;
  JsonResponse response_;
};

// A JSON document, or server-sent events: one for each piece, or, where the request says `stream`:
// false, one.
class GenerateFormat : public AnswerFormat {
 public:
  GenerateFormat(const ServedModel* model, std::string id, bool events, bool streams)
      : model_(model), id_(std::move(id)), events_(events), streams_(streams) {}

  std::string Add(int /*prompt*/, AnswerDelta delta) override {
    const std::string document = GenerateResponse(delta, id_, model_->name());
    std::string piece = events_ ? Event(document) : document;
    if (streams_) return piece;
    whole_ = std::move(piece);
    return "";
  }
  std::string End(const absl::Status& status) override {
    if (!streams_) return std::move(whole_);
    return status.ok() ? "" : Event(ErrorJson(status));
  }
  void Complete(HttpResponse* response) override {
    if (events_) response->content_type = AnswerJob().content_type;  // a stream's
  }

 private:
  static std::string Event(absl::string_view document) {
    return absl::StrCat("data: ", document, "\n\n");
  }

  const ServedModel* const model_;
  const std::string id_;
  const bool events_;
  const bool streams_;
  std::string whole_;
};

// What a request asks for, in the job that answers it.
absl::StatusOr<AnswerJob> JobOf(const HttpEnvironment& environment, const HttpRequest& http,
                                InferRequest request, InferMethod method) {
  const absl::StatusOr<absl::Time> deadline = DeadlineOf(http);
  if (!deadline.ok()) return deadline.status();
  request.model = environment.model->name();
  if (request.id.empty()) request.id = http.request_id;
  absl::StatusOr<ClientRequest> wanted = ToClientRequest(std::move(request), method);
  if (!wanted.ok()) return wanted.status();
  wanted->deadline = std::min(wanted->deadline, *deadline);
  AnswerJob job;
  job.error = Error;
  job.stream = wanted->stream;
  job.requests.push_back(*std::move(wanted));
  return job;
}

absl::StatusOr<AnswerJob> Infer(const HttpEnvironment& environment, HttpRequest* http) {
  const std::string body = std::exchange(http->body, "");
  absl::StatusOr<JsonRequest> read = ReadInferBody(body, http->Header(kJsonLengthHeader));
  if (!read.ok()) return read.status();
  auto format = std::make_unique<InferFormat>(environment.model, read->request.id, read->binary);
  absl::StatusOr<AnswerJob> job =
      JobOf(environment, *http, std::move(read->request), InferMethod::kInfer);
  if (job.ok()) job->format = std::move(format);
  return job;
}

template <InferMethod kMethod>
absl::StatusOr<AnswerJob> GenerateText(const HttpEnvironment& environment, HttpRequest* http) {
  const std::string body = std::exchange(http->body, "");
  absl::StatusOr<InferRequest> read = ReadGenerateBody(body);
  if (!read.ok()) return read.status();
  const std::string id = read->id;
  absl::StatusOr<AnswerJob> job = JobOf(environment, *http, *std::move(read), kMethod);
  if (!job.ok()) return job;
  job->format = std::make_unique<GenerateFormat>(environment.model, id,
                                                 kMethod == InferMethod::kStreamInfer, job->stream);
  return job;
}

class RouteMaker {
 public:
  explicit RouteMaker(const HttpEnvironment* environment) : environment_(environment) {}

  // `answer` gives the body, or why there is none.
  void Get(const std::string& path,
           std::function<absl::StatusOr<std::string>(const HttpRequest&)> answer) {
    HttpRoute& route = Add("GET", path);
    route.handler = [answer = std::move(answer)](const Exchange& exchange) {
      absl::StatusOr<std::string> body = answer(exchange->request());
      if (!body.ok()) return exchange->Respond(HttpRefusal(body.status(), Error));
      HttpResponse response;
      response.body = *std::move(body);
      exchange->Respond(std::move(response));
    };
  }

  using ReadJob = absl::StatusOr<AnswerJob> (*)(const HttpEnvironment&, HttpRequest*);
  void Post(const std::string& path, ReadJob read) {
    HttpRoute& route = Add("POST", path);
    route.content_type = "";  // clients that send bytes behind JSON name none, or octet-stream
    route.handler = [environment = environment_, read](Exchange exchange) {
      const absl::Status known = CheckPath(*environment, exchange->request());
      absl::StatusOr<AnswerJob> job = known.ok() ? read(*environment, &exchange->request()) : known;
      if (!job.ok()) {
        return AnswerExchange::Refuse(*environment, exchange.get(), job.status(), Error);
      }
      AnswerExchange::Start(environment, std::move(exchange), *std::move(job));
    };
  }

  std::vector<HttpRoute> Take() { return std::move(routes_); }

 private:
  HttpRoute& Add(const char* method, const std::string& path) {
    HttpRoute& route = routes_.emplace_back();
    route.method = method;
    route.path = path;
    route.error = Error;
    return route;
  }

  const HttpEnvironment* const environment_;
  std::vector<HttpRoute> routes_;
};

}  // namespace

std::vector<HttpRoute> OpenInferenceRoutes(const HttpEnvironment* environment,
                                           const HealthState* health) {
  RouteMaker maker(environment);
  auto ready = [health]() -> absl::Status {
    if (NotReady(*health) == nullptr) return absl::OkStatus();
    return absl::UnavailableError("server: not ready");
  };
  using Body = absl::StatusOr<std::string>;
  maker.Get("/v2", [](const HttpRequest&) -> Body { return ServerMetadataJson(); });
  maker.Get("/v2/health/live", [health](const HttpRequest&) -> Body {
    if (health->stuck) return absl::UnavailableError("server: a step does not end");
    return "";
  });
  maker.Get("/v2/health/ready", [ready](const HttpRequest&) -> Body {
    if (absl::Status status = ready(); !status.ok()) return status;
    return "";
  });
  for (const std::string model : {"/v2/models/{model}", "/v2/models/{model}/versions/{version}"}) {
    maker.Get(model, [environment](const HttpRequest& request) -> Body {
      if (absl::Status status = CheckPath(*environment, request); !status.ok()) return status;
      return ModelMetadataJson(environment->model->name());
    });
    maker.Get(model + "/ready", [environment, ready](const HttpRequest& request) -> Body {
      for (const absl::Status& status : {CheckPath(*environment, request), ready()}) {
        if (!status.ok()) return status;
      }
      return "";
    });
    maker.Post(model + "/infer", Infer);
    maker.Post(model + "/generate", GenerateText<InferMethod::kInfer>);
    maker.Post(model + "/generate_stream", GenerateText<InferMethod::kStreamInfer>);
  }
  return maker.Take();
}

}  // namespace pregate
