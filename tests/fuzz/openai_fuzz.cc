// A request's body of any bytes, for completions and for chats: a typed error, or requests that the
// model's own rules judge; and HTTP of any bytes, in two pieces: a request or a typed error.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

#include "server/http/request_reader.h"
#include "server/openai/chat_request.h"
#include "server/openai/completion_request.h"
#include "server/openai/json_body.h"
#include "server/openai/openai_error.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/server/random_server.h"

namespace pregate {

std::vector<std::string> FuzzSeeds() {
  return {
      R"({"model":"random","prompt":["Hi",[72,105]],"max_tokens":0,"echo":true,"logprobs":5,)"
      R"("n":2,"stop":["a","b"],"stop_token_ids":[3],"logit_bias":{"7":-100},"seed":-5,)"
      R"("temperature":0.5,"top_k":4,"min_p":0.1,"typical_p":0.9,"best_of":null,"suffix":null})",
      R"({"prompt":"a","stream":true,"stream_options":{"include_usage":true},"user":"u",)"
      R"("presence_penalty":1.5,"frequency_penalty":-1e0,"ignore_eos":true,"priority":1})",
      R"({"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":[)"
      R"({"type":"text","text":"a\u00e9\ud83d\ude00"},{"type":"text","text":""}]},)"
      R"({"role":"assistant","content":"b","tool_calls":[]}],"logprobs":true,"top_logprobs":2,)"
      R"("tools":[],"response_format":{"type":"text"},"max_completion_tokens":9})",
      "POST /v1/completions?a=b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
      "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\n{}\n\r\n0\r\nT: "
      "u\r\n\r\n",
      "GET http://h/v1/models/a%20b HTTP/1.0\r\nX-Request-Id: 1\r\nContent-Length: 2\r\n\r\nab"};
}

namespace {

// What a client is told is never longer than this, whatever it sent.
constexpr size_t kMaxErrorBytes = 1024;

void ExpectSaid(const absl::Status& status) {
  if (status.ok()) return;
  const int code = HttpStatusOf(status);
  if (code != 400 && code != 404 && code != 501) std::abort();
  if (status.message().find(": ") == absl::string_view::npos) std::abort();
  const std::string text = OpenAiErrorText(code, status);
  if (text.size() > kMaxErrorBytes || !nlohmann::json::accept(text)) std::abort();
}

void ReadBody(std::string_view bytes) {
  static const RandomServer* const served = new RandomServer();
  absl::StatusOr<nlohmann::json> body = ParseJsonBody({bytes.data(), bytes.size()});
  ExpectSaid(body.status());
  if (!body.ok()) return;
  absl::StatusOr<CompletionRequest> completion = ReadCompletionRequest(*body, served->model);
  ExpectSaid(completion.status());
  for (size_t i = 0; completion.ok() && i < completion->prompts.size(); ++i) {
    ExpectSaid(served->model.Translate(completion->prompts[i]).status());
  }
  absl::StatusOr<ChatRequest> chat = ReadChatRequest(*body, served->engine->model().max_model_len);
  ExpectSaid(chat.status());
}

void ReadHttp(std::string_view bytes) {
  RequestReader reader;
  std::string in;
  for (const std::string_view piece :
       {bytes.substr(0, bytes.size() / 2), bytes.substr(bytes.size() / 2)}) {
    in += piece;
    for (size_t used = 1; used > 0 && !in.empty();) {
      used = reader.Put(in);
      if (used > in.size()) std::abort();
      in.erase(0, used);
    }
  }
  const bool bad = reader.state() == RequestReader::State::kBad;
  if (bad != !reader.error().ok() || bad != (reader.http_status() != 0)) std::abort();
  if (bad && reader.error().message().size() > kMaxErrorBytes) std::abort();
}

}  // namespace
}  // namespace pregate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  pregate::ReadBody(bytes);
  pregate::ReadHttp(bytes);
  return 0;
}
