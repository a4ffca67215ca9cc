// The load generator against what servers say over HTTP.
#include "load_tests/loadgen/http_client.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "load_tests/loadgen/http_answer.h"

namespace pregate {
namespace {

constexpr char kHeader[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

std::string Chunk(const std::string& text) {
  return absl::StrFormat("%x\r\n%s\r\n", text.size(), text);
}

std::string Event(int tokens, bool stop) {
  return absl::StrFormat("data: {\"content\":\"a\",\"stop\":%s,\"tokens_predicted\":%d}\n\n",
                         stop ? "true" : "false", tokens);
}

TEST(HttpAnswer, IsTheSameHoweverItIsCut) {
  const std::string bytes = kHeader + Chunk("data: one\n\nda") + Chunk("ta: two\n\n: note\n\n") +
                            Chunk("data: three\n\ndata: cut") + Chunk("");
  for (size_t cut = 1; cut <= bytes.size(); ++cut) {
    HttpAnswer answer;
    std::vector<std::string> events;
    for (size_t at = 0; at < bytes.size(); at += cut) {
      ASSERT_TRUE(answer.Feed(std::string_view(bytes).substr(at, cut)));
      for (const std::string& event : answer.TakeEvents()) events.push_back(event);
    }
    EXPECT_EQ(events, (std::vector<std::string>{"one", "two", "three"})) << cut;
    EXPECT_TRUE(answer.is_done());
    EXPECT_EQ(answer.status(), 200);
    EXPECT_EQ(answer.body(), "data: cut");
  }
}

TEST(HttpAnswer, KeepsTheBodyOfAnError) {
  HttpAnswer answer;
  EXPECT_TRUE(answer.Feed("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 7\r\n\r\nloading"));
  EXPECT_EQ(answer.status(), 503);
  EXPECT_EQ(answer.body(), "loading");
}

TEST(HttpAnswer, RefusesWhatIsNone) {
  EXPECT_FALSE(HttpAnswer().Feed("SSH-2.0-OpenSSH\r\n\r\n"));
  EXPECT_FALSE(HttpAnswer().Feed(std::string(100000, 'a')));
  for (const char* chunk : {"x\r\n", "ffffffffffffffff\r\n", "1\r\naaaa"}) {
    EXPECT_FALSE(HttpAnswer().Feed(std::string(kHeader) + chunk)) << chunk;
  }
}

// Answers each connection with the given pieces, a pause before each, and hangs up.
class Scripted {
 public:
  Scripted(std::vector<std::string> pieces, int connections, std::chrono::milliseconds pause)
      : listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* any = reinterpret_cast<sockaddr*>(&address);
    socklen_t length = sizeof address;
    EXPECT_EQ(bind(listener_, any, length), 0);
    EXPECT_EQ(listen(listener_, connections), 0);
    EXPECT_EQ(getsockname(listener_, any, &length), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, pieces = std::move(pieces), connections, pause] {
      for (int i = 0; i < connections; ++i) {
        const int fd = accept(listener_, nullptr, nullptr);
        char request[1 << 16];
        request_ = std::string(request, static_cast<size_t>(recv(fd, request, sizeof request, 0)));
        for (const std::string& piece : pieces) {
          std::this_thread::sleep_for(pause);
          send(fd, piece.data(), piece.size(), MSG_NOSIGNAL);
        }
        close(fd);
      }
    });
  }
  ~Scripted() {
    thread_.join();
    close(listener_);
  }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  // After all connections.
  const std::string& last_request() const { return request_; }

 private:
  const int listener_;
  int port_ = 0;
  std::string request_;
  std::thread thread_;
};

std::vector<RequestRecord> RunAgainst(const Scripted& server, int requests, double timeout_s = 5,
                                      Protocol protocol = Protocol::kLlamaServer) {
  const Prompts prompts({1000});
  const Load load = {std::vector<Arrival>(static_cast<size_t>(requests), {0, 3, 4}), 1};
  auto records = RunHttpLoad(protocol, "small", {server.address(), 1, timeout_s}, load, prompts);
  EXPECT_TRUE(records.ok()) << records.status();
  return records.ok() ? *std::move(records) : std::vector<RequestRecord>();
}

TEST(LlamaServer, NotesWhenTokensCome) {
  // The third token is half a character: it comes with the fourth.
  const Scripted server({kHeader, Chunk(Event(1, false)), Chunk(Event(2, false)),
                         Chunk(Event(4, false)), Chunk(Event(4, true)) + Chunk("")},
                        2, std::chrono::milliseconds(20));
  for (const RequestRecord& record : RunAgainst(server, 2)) {
    EXPECT_EQ(record.status, "OK") << record.error;
    EXPECT_EQ(record.token_counts, (std::vector<int32_t>{1, 1, 2}));
    EXPECT_EQ(record.tokens(), 4);
    EXPECT_GE(record.token_s.front() - record.sent_s, 0.039);
    EXPECT_GE(record.longest_gap_s(), 0.019);
  }
  for (const char* word : {"POST /completion HTTP/1.1\r\n", "\"n_predict\":4",
                           "\"ignore_eos\":true", "\"cache_prompt\":false", "\"stream\":true"}) {
    EXPECT_NE(server.last_request().find(word), std::string::npos) << server.last_request();
  }
}

TEST(LlamaServer, SaysWhatWentWrong) {
  const auto status_of = [](const std::vector<std::string>& pieces, double timeout_s) {
    const Scripted server(pieces, 1, std::chrono::milliseconds(300));
    return RunAgainst(server, 1, timeout_s)[0].status;
  };
  EXPECT_EQ(status_of({"HTTP/1.1 503 No\r\n\r\nloading"}, 5), "UNAVAILABLE");
  EXPECT_EQ(status_of({"HTTP/1.1 400 No\r\n\r\nbad"}, 5), "INVALID_ARGUMENT");
  EXPECT_EQ(status_of({}, 5), "UNAVAILABLE");
  EXPECT_EQ(status_of({kHeader + Chunk(Event(1, false))}, 5), "UNKNOWN");  // cut off
  EXPECT_EQ(status_of({kHeader + Chunk("data: {\"error\":{}}\n\n") + Chunk("")}, 5), "UNKNOWN");
  EXPECT_EQ(status_of({kHeader}, 0.05), "DEADLINE_EXCEEDED");
}

TEST(LlamaServer, TellsItsModel) {
  const std::string body =
      R"({"data":[{"id":"small","meta":{"n_vocab":1000,"n_ctx":256}}],"object":"list"})";
  const Scripted server(
      {absl::StrFormat("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", body.size(), body)}, 1,
      std::chrono::milliseconds(1));
  const auto info = AwaitHttpServer(Protocol::kLlamaServer, server.address(), 5);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->model, "small");
  EXPECT_EQ(info->vocab_size, 1000U);
  EXPECT_EQ(info->max_model_len, 256U);
}

TEST(OpenAi, NotesWhenTokensCome) {
  const auto event = [](const std::string& usage) {
    return Chunk("data: {\"choices\":[{\"text\":\"a\"}]" + usage + "}\n\n");
  };
  const std::string end = Chunk("data: [DONE]\n\n") + Chunk("");
  // A server that counts in each event, one that counts at the end, and one that does not count:
  // then an event is a token.
  const Scripted counts({kHeader + event(",\"usage\":{\"completion_tokens\":1}"),
                         event(",\"usage\":{\"completion_tokens\":4}") + end},
                        1, std::chrono::milliseconds(20));
  const Scripted sums_up(
      {kHeader + event(""),
       event("") + Chunk("data: {\"choices\":[],\"usage\":{\"completion_tokens\":4}}\n\n") + end},
      1, std::chrono::milliseconds(20));
  const Scripted silent({kHeader + event(""), event("") + end}, 1, std::chrono::milliseconds(20));
  const RequestRecord counted = RunAgainst(counts, 1, 5, Protocol::kOpenAi)[0];
  const RequestRecord summed = RunAgainst(sums_up, 1, 5, Protocol::kOpenAi)[0];
  const RequestRecord guessed = RunAgainst(silent, 1, 5, Protocol::kOpenAi)[0];
  EXPECT_EQ(counted.status, "OK") << counted.error;
  EXPECT_EQ(counted.token_counts, (std::vector<int32_t>{1, 3}));
  EXPECT_GE(counted.longest_gap_s(), 0.019);
  EXPECT_EQ(summed.token_counts, (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(guessed.token_counts, (std::vector<int32_t>{1, 1}));
  for (const char* word : {"POST /v1/completions HTTP/1.1\r\n", "\"max_tokens\":4",
                           "\"ignore_eos\":true", "\"model\":\"small\"", "\"stream\":true"}) {
    EXPECT_NE(counts.last_request().find(word), std::string::npos) << counts.last_request();
  }
}

TEST(OpenAi, SaysWhatWentWrong) {
  const auto status_of = [](const std::string& piece) {
    const Scripted server({piece}, 1, std::chrono::milliseconds(1));
    return RunAgainst(server, 1, 5, Protocol::kOpenAi)[0].status;
  };
  EXPECT_EQ(status_of("HTTP/1.1 429 No\r\n\r\n{}"), "RESOURCE_EXHAUSTED");
  EXPECT_EQ(status_of("HTTP/1.1 401 No\r\n\r\n{}"), "UNAUTHENTICATED");
  // A stream that ends without its last word is cut.
  EXPECT_EQ(status_of(kHeader + Chunk("data: {\"choices\":[{\"text\":\"a\"}]}\n\n") + Chunk("")),
            "UNKNOWN");
}

}  // namespace
}  // namespace pregate
