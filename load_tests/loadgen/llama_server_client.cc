#include "load_tests/loadgen/llama_server_client.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
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
#include "load_tests/loadgen/http_answer.h"

namespace pregate {
namespace {

using Json = nlohmann::json;

// Longest wait for the network: how late a request's own time limit may be seen.
constexpr double kLongestWaitS = 0.1;

struct Address {
  sockaddr_storage storage = {};
  socklen_t length = 0;
};

absl::StatusOr<Address> Resolve(const std::string& text) {
  const size_t colon = text.rfind(':');
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (colon == std::string::npos ||
      getaddrinfo(text.substr(0, colon).c_str(), text.substr(colon + 1).c_str(), &hints, &found)) {
    return absl::InvalidArgumentError(absl::StrCat("server: must be HOST:PORT; got ", text));
  }
  Address address;
  address.length = found->ai_addrlen;
  std::copy_n(reinterpret_cast<const char*>(found->ai_addr), found->ai_addrlen,
              reinterpret_cast<char*>(&address.storage));
  freeaddrinfo(found);
  return address;
}

// A socket that is about to be connected and never blocks; -1 if there is none.
int Dial(const Address& address) {
  const int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0 &&
      errno != EINPROGRESS) {
    close(fd);
    return -1;
  }
  return fd;
}

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

  pollfd Interest() const {
    return {fd_, static_cast<short>(out_.empty() ? POLLIN : POLLIN | POLLOUT), 0};
  }

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
      const ssize_t got = recv(fd_, buffer.data(), buffer.size(), 0);
      if (got < 0) return errno == EAGAIN;
      if (got == 0) return false;
      if (!answer_.Feed({buffer.data(), static_cast<size_t>(got)})) return false;
      if (answer_.is_done()) return false;
    }
  }

  HttpAnswer& answer() { return answer_; }

 private:
  const int fd_;
  std::string out_;  // not sent yet
  HttpAnswer answer_;
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
    pollfd interest = exchange.Interest();
    poll(&interest, 1, static_cast<int>(1e3 * kLongestWaitS));
  }
  return "";
}

const char* NameOfHttpStatus(int status) {
  if (status == 400) return "INVALID_ARGUMENT";
  return status == 0 || status == 503 ? "UNAVAILABLE" : "UNKNOWN";
}

// One request on its way.
struct Call {
  Call(RequestRecord* its_record, const Address& address, std::string request)
      : record(its_record), exchange(address, std::move(request)) {}

  RequestRecord* const record;
  Exchange exchange;
  int64_t tokens = 0;  // that the server has spoken of
  bool is_whole = false;

  void TakeEvents(double now) {
    for (const std::string& text : exchange.answer().TakeEvents()) {
      const Json event = Json::parse(text, nullptr, false);
      if (!event.is_object() || event.contains("error")) {
        record->error = text;
        continue;
      }
      // A token in the middle of a character comes with the message that ends the character.
      const int64_t count = event.value("tokens_predicted", tokens);
      if (count > tokens) {
        record->token_s.push_back(now);
        record->token_counts.push_back(static_cast<int32_t>(count - tokens));
        tokens = count;
      }
      is_whole = is_whole || event.value("stop", false);
    }
  }

  void SetStatus(bool is_late) {
    const HttpAnswer& answer = exchange.answer();
    if (is_whole && record->error.empty()) return;
    record->status = is_late ? "DEADLINE_EXCEEDED" : NameOfHttpStatus(answer.status());
    if (record->error.empty()) {
      record->error = answer.body().empty() ? "no whole answer" : answer.body();
    }
  }
};

class Run {
 public:
  Run(const ClientOptions& options, const Address& address, const Load& load,
      const Prompts& prompts)
      : options_(options), address_(address), prompts_(prompts), pace_(load) {}

  std::vector<RequestRecord> Execute() {
    pace_.Start();
    while (!pace_.is_done()) {
      while (pace_.IsDue()) Send();
      Advance();
    }
    return pace_.TakeRecords();
  }

 private:
  void Send() {
    size_t number;
    RequestRecord* record = pace_.Begin(&number);
    const Json body = {
        {"prompt", prompts_.Make(static_cast<int64_t>(number), record->prompt_tokens)},
        {"n_predict", record->max_tokens},
        {"ignore_eos", true},
        {"samplers", {"top_k"}},
        {"top_k", 1},
        {"temperature", 0},
        {"cache_prompt", false},
        {"stream", true}};
    Call& call = calls_.emplace_back(
        record, address_, HttpRequest("POST", "/completion", options_.address, body.dump()));
    if (!call.exchange.Advance()) End(std::prev(calls_.end()), false);
    record->sent_s = pace_.Now();
  }

  // Waits until something can be received or sent, or a request is due.
  void Advance() {
    std::vector<pollfd> interests;
    for (const Call& call : calls_) interests.push_back(call.exchange.Interest());
    const double wait = std::clamp(pace_.UntilDue().value_or(kLongestWaitS), 0.0, kLongestWaitS);
    const timespec limit = {0, static_cast<long>(1e9 * wait)};
    if (ppoll(interests.data(), interests.size(), &limit, nullptr) < 0) return;
    auto call = calls_.begin();
    for (const pollfd& interest : interests) {
      const auto current = call++;
      bool goes_on = true;
      if (interest.revents != 0) {
        goes_on = current->exchange.Advance();
        current->TakeEvents(pace_.Now());
      }
      const bool is_late = pace_.Now() > current->record->sent_s + options_.timeout_s;
      if (!goes_on || is_late) End(current, is_late);
    }
  }

  void End(std::list<Call>::iterator call, bool is_late) {
    call->record->end_s = pace_.Now();
    call->SetStatus(is_late);
    calls_.erase(call);
    pace_.End();
  }

  const ClientOptions& options_;
  const Address& address_;
  const Prompts& prompts_;
  Pace pace_;
  std::list<Call> calls_;
};

}  // namespace

absl::StatusOr<ServerInfo> AwaitLlamaServer(const std::string& address, double patience_s) {
  const absl::StatusOr<Address> resolved = Resolve(address);
  if (!resolved.ok()) return resolved.status();
  const std::string request = HttpRequest("GET", "/v1/models", address, "");
  const absl::Time end = absl::Now() + absl::Seconds(patience_s);
  do {
    const Json models = Json::parse(Ask(*resolved, request, patience_s), nullptr, false);
    const Json* meta = nullptr;
    if (models.is_object() && models.contains("data") && !models["data"].empty()) {
      meta = &models["data"][0]["meta"];
    }
    if (meta != nullptr && meta->is_object() && meta->value("n_vocab", 0U) > 0) {
      return ServerInfo{models["data"][0].value("id", ""), meta->value("n_vocab", 0U),
                        meta->value("n_ctx", 0U)};
    }
    absl::SleepFor(absl::Milliseconds(50));
  } while (absl::Now() < end);
  return absl::UnavailableError(absl::StrCat(address, ": no llama-server that serves a model"));
}

absl::StatusOr<std::vector<RequestRecord>> RunLlamaServerLoad(const ClientOptions& options,
                                                              const Load& load,
                                                              const Prompts& prompts) {
  const absl::StatusOr<Address> address = Resolve(options.address);
  if (!address.ok()) return address.status();
  Run run(options, *address, load, prompts);
  return run.Execute();
}

}  // namespace pregate
