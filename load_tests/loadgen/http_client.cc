#include "load_tests/loadgen/http_client.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <list>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "load_tests/loadgen/http_answer.h"
#include "load_tests/loadgen/timed_socket.h"

namespace pregate {
namespace {

using Json = nlohmann::json;

// Longest wait for the network: how late a request's own time limit may be seen.
constexpr double kLongestWaitS = 0.1;

// One exchange over a connection of its own, open until destruction.
class Exchange {
 public:
  Exchange(const Address& address, std::string request)
      : fd_(Dial(address)), out_(std::move(request)) {}
  ~Exchange() {
    if (fd_ >= 0) close(fd_);
  }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  int fd() const { return fd_; }
  // What it waits for, in poll's bits, which are epoll's too.
  uint32_t Interest() const { return out_.empty() ? POLLIN : POLLIN | POLLOUT; }

  // Sends and receives what it can; false once nothing more will come.
  bool Advance() {
    if (fd_ < 0) return false;
    if (!out_.empty()) {
      const ssize_t sent = send(fd_, out_.data(), out_.size(), MSG_NOSIGNAL);
      if (sent < 0) return errno == EAGAIN || errno == ENOTCONN;
      out_.erase(0, static_cast<size_t>(sent));
    }
    std::array<char, 1 << 14> buffer;
    for (;;) {
      const ssize_t got = Receive(fd_, absl::MakeSpan(buffer), &waited_s_);
      if (got < 0) return errno == EAGAIN;
      if (got == 0) return false;
      if (!answer_.Feed({buffer.data(), static_cast<size_t>(got)})) return false;
      if (answer_.is_done()) return false;
    }
  }

  HttpAnswer& answer() { return answer_; }
  // How long what was received last had lain with the kernel.
  double waited_s() const { return waited_s_; }

 private:
  const int fd_;
  std::string out_;  // not sent yet
  HttpAnswer answer_;
  double waited_s_ = 0;
};

// A request that the server answers and then hangs up.
std::string HttpRequest(std::string_view method, std::string_view path, std::string_view host,
                        const std::string& body) {
  std::string text(method);
  text.append(" ").append(path).append(" HTTP/1.1\r\nHost: ").append(host);
  text.append("\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ");
  return text.append(std::to_string(body.size())).append("\r\n\r\n").append(body);
}

// Asks once and waits for the whole answer; nothing if there is none within `patience_s`.
std::string Ask(const Address& address, const std::string& request, double patience_s) {
  Exchange exchange(address, request);
  const absl::Time end = absl::Now() + absl::Seconds(patience_s);
  while (absl::Now() < end) {
    if (!exchange.Advance()) {
      return exchange.answer().status() == 200 ? exchange.answer().body() : "";
    }
    pollfd interest = {exchange.fd(), static_cast<short>(exchange.Interest()), 0};
    poll(&interest, 1, static_cast<int>(1e3 * kLongestWaitS));
  }
  return "";
}

const char* NameOfHttpStatus(int status) {
  switch (status) {
    case 400:
      return "INVALID_ARGUMENT";
    case 401:
      return "UNAUTHENTICATED";
    case 429:
      return "RESOURCE_EXHAUSTED";
    case 0:
    case 503:
      return "UNAVAILABLE";
    case 504:
      return "DEADLINE_EXCEEDED";
    default:
      return "UNKNOWN";
  }
}

// What an event of a stream says of the answer so far.
struct Progress {
  int64_t tokens = 0;
  bool has_text = true;  // the event itself
  bool is_whole = false;
};

// How one API words requests and answers.
struct Dialect {
  const char* path;
  Json (*request)(const std::string& model, const std::vector<uint32_t>& prompt, int32_t tokens);
  void (*read)(const Json& event, Progress* progress);
  ServerInfo (*model)(const Json& entry);  // of /v1/models; no vocabulary: it serves no model yet
};

constexpr Dialect kLlamaServer = {
    "/completion",
    [](const std::string& /*model*/, const std::vector<uint32_t>& prompt, int32_t tokens) {
      return Json{{"prompt", prompt},      {"n_predict", tokens}, {"ignore_eos", true},
                  {"samplers", {"top_k"}}, {"top_k", 1},          {"temperature", 0},
                  {"cache_prompt", false}, {"stream", true}};
    },
    [](const Json& event, Progress* progress) {
      // A token in the middle of a character comes with the message that ends the character.
      progress->tokens = event.value("tokens_predicted", progress->tokens);
      progress->is_whole |= event.value("stop", false);
    },
    [](const Json& entry) {
      const Json meta = entry.value("meta", Json::object());
      return ServerInfo{entry.value("id", ""), meta.value("n_vocab", 0U), meta.value("n_ctx", 0U)};
    }};

// Of what a server of this kind need not tell. Ids of every vocabulary are bytes at first.
constexpr uint32_t kLeastVocabulary = 256, kLeastContext = 2048;

constexpr Dialect kOpenAi = {
    "/v1/completions",
    [](const std::string& model, const std::vector<uint32_t>& prompt, int32_t tokens) {
      return Json{{"model", model},
                  {"prompt", prompt},
                  {"max_tokens", tokens},
                  {"ignore_eos", true},
                  {"temperature", 0},
                  {"stream", true},
                  {"stream_options", {{"include_usage", true}, {"continuous_usage_stats", true}}}};
    },
    [](const Json& event, Progress* progress) {
      const Json choices = event.value("choices", Json());
      progress->has_text =
          choices.is_array() && !choices.empty() && choices[0].value("text", "") != "";
      // An event is taken for a token; servers that count, at the end or at each, put that right.
      const Json usage = event.value("usage", Json());
      progress->tokens = usage.is_object() ? usage.value("completion_tokens", progress->tokens)
                                           : progress->tokens + progress->has_text;
    },
    [](const Json& entry) {
      return ServerInfo{entry.value("id", ""), entry.value("vocab_size", kLeastVocabulary),
                        entry.value("max_model_len", kLeastContext)};
    }};

const Dialect& DialectOf(Protocol protocol) {
  return protocol == Protocol::kOpenAi ? kOpenAi : kLlamaServer;
}

// One request on its way.
struct Call {
  Call(RequestRecord* its_record, const Address& address, std::string request)
      : record(its_record), exchange(address, std::move(request)) {}

  RequestRecord* const record;
  Exchange exchange;
  Progress progress;
  std::list<Call>::iterator position;  // in the list of those on their way
  uint32_t interest = 0;               // what the kernel was asked to tell of it

  void TakeEvents(const Dialect& dialect, double now) {
    for (const std::string& text : exchange.answer().TakeEvents()) {
      if (text == "[DONE]") {  // OpenAI's end of a stream
        progress.is_whole = true;
        continue;
      }
      const Json event = Json::parse(text, nullptr, false);
      if (!event.is_object() || event.contains("error")) {
        record->error = text;
        continue;
      }
      const int64_t before = progress.tokens;
      dialect.read(event, &progress);
      if (progress.tokens > before) Note(static_cast<int32_t>(progress.tokens - before), now);
    }
  }

  // Tokens that are only counted had come with others.
  void Note(int32_t tokens, double now) {
    if (progress.has_text || record->token_s.empty()) {
      record->token_s.push_back(now);
      record->token_counts.push_back(tokens);
    } else {
      record->token_counts.back() += tokens;
    }
  }

  void SetStatus(bool is_late) {
    const HttpAnswer& answer = exchange.answer();
    if (progress.is_whole && record->error.empty()) return;
    record->status = is_late ? "DEADLINE_EXCEEDED" : NameOfHttpStatus(answer.status());
    if (record->error.empty()) {
      record->error = answer.body().empty() ? "no whole answer" : answer.body();
    }
  }
};

class Run {
 public:
  Run(const Dialect& dialect, const std::string& model, const ClientOptions& options,
      const Address& address, const Load& load, const Prompts& prompts)
      : dialect_(dialect),
        model_(model),
        options_(options),
        address_(address),
        prompts_(prompts),
        pace_(load) {}

  ~Run() { close(epoll_); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  std::vector<RequestRecord> Execute() {
    return pace_.Execute([this] { Send(); }, [this] { Advance(); });
  }

 private:
  void Send() {
    size_t number;
    RequestRecord* record = pace_.Begin(&number);
    const Json body =
        dialect_.request(model_, prompts_.Make(static_cast<int64_t>(number), record->prompt_tokens),
                         record->max_tokens);
    Call& call = calls_.emplace_back(
        record, address_, HttpRequest("POST", dialect_.path, options_.address, body.dump()));
    call.position = std::prev(calls_.end());
    record->sent_s = pace_.Now();
    if (call.exchange.Advance()) {
      Listen(EPOLL_CTL_ADD, &call);
    } else {
      End(call.position, false);
    }
  }

  // Waits until something can be received or sent, or a request is due.
  void Advance() {
    const timespec limit = pace_.Wait(kLongestWaitS);
    std::array<epoll_event, 64> events;  // options_.nap_s says why so few
    const int count = epoll_pwait2(epoll_, events.data(), events.size(), &limit, nullptr);
    for (int i = 0; i < count; ++i) {
      Call& call = *static_cast<Call*>(events[i].data.ptr);
      const bool goes_on = call.exchange.Advance();
      call.TakeEvents(dialect_,
                      pace_.Now() - (options_.kernel_times ? call.exchange.waited_s() : 0));
      if (goes_on) {
        Listen(EPOLL_CTL_MOD, &call);
      } else {
        End(call.position, false);
      }
    }
    EndLate();
    if (count > 0 && options_.nap_s > 0) pace_.Nap(options_.nap_s);
  }

  // Has the call told of, by the kernel's list: asking for each of many at every turn would cost
  // more than what comes.
  void Listen(int operation, Call* call) {
    epoll_event event = {};
    event.events = call->exchange.Interest();
    event.data.ptr = call;
    if (operation == EPOLL_CTL_MOD && event.events == call->interest) return;
    call->interest = event.events;
    epoll_ctl(epoll_, operation, call->exchange.fd(), &event);
  }

  void EndLate() {
    if (pace_.Now() < next_look_s_) return;
    next_look_s_ = pace_.Now() + kLongestWaitS;
    for (auto call = calls_.begin(); call != calls_.end();) {
      const auto current = call++;
      if (pace_.Now() > current->record->sent_s + options_.timeout_s) End(current, true);
    }
  }

  void End(std::list<Call>::iterator call, bool is_late) {
    call->record->end_s = pace_.Now();
    call->SetStatus(is_late);
    calls_.erase(call);
    pace_.End();
  }

  const Dialect& dialect_;
  const std::string& model_;
  const ClientOptions& options_;
  const Address& address_;
  const Prompts& prompts_;
  Pace pace_;
  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  double next_look_s_ = 0;  // at who is late
  std::list<Call> calls_;
};

}  // namespace

absl::StatusOr<ServerInfo> AwaitHttpServer(Protocol protocol, const std::string& address,
                                           double patience_s) {
  const absl::StatusOr<Address> resolved = Resolve(address);
  if (!resolved.ok()) return resolved.status();
  const std::string request = HttpRequest("GET", "/v1/models", address, "");
  const absl::Time end = absl::Now() + absl::Seconds(patience_s);
  do {
    const Json models = Json::parse(Ask(*resolved, request, patience_s), nullptr, false);
    if (models.is_object() && models.contains("data") && !models["data"].empty()) {
      const ServerInfo info = DialectOf(protocol).model(models["data"][0]);
      if (info.vocab_size > 0) return info;
    }
    absl::SleepFor(absl::Milliseconds(50));
  } while (absl::Now() < end);
  return absl::UnavailableError(absl::StrCat(address, ": no server that serves a model"));
}

absl::StatusOr<std::vector<RequestRecord>> RunHttpLoad(Protocol protocol, const std::string& model,
                                                       const ClientOptions& options,
                                                       const Load& load, const Prompts& prompts) {
  const absl::StatusOr<Address> address = Resolve(options.address);
  if (!address.ok()) return address.status();
  Run run(DialectOf(protocol), model, options, *address, load, prompts);
  return run.Execute();
}

}  // namespace pregate
