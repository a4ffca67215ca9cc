// The HTTP listener over loopback: requests, answers, paths, tokens, its end.
#include "server/http/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "server/http/request_reader.h"
#include "tests/server/http_server_fixture.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

using HttpServerTest = HttpServerFixture;

TEST_F(HttpServerTest, AnswersOnOneConnectionAfterAnother) {
  Start();
  HttpClient client(server_->port());
  for (int i = 0; i < 3; ++i) {
    const HttpReply reply = client.Ask(GetText("/a?q=1&r=%20"));
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.body, "GET /a?q=1&r=%20 |");
    EXPECT_EQ(reply.Header("content-type"), "text/plain");
    EXPECT_NE(reply.Header("date"), "");
    EXPECT_EQ(reply.Header("connection"), "");
  }
  EXPECT_EQ(client.Ask(PostText("/a", "{}")).body, "POST /a? |{}");
}

TEST_F(HttpServerTest, PipelinedRequestsAreAnsweredInOrder) {
  Start();
  HttpClient client(server_->port());
  std::string all;
  for (int i = 0; i < 50; ++i) all += PostText("/a", absl::StrCat(i));
  client.Send(all + GetText("/pieces") + "\r\n" + GetText("/a", "Connection: close\r\n"));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(client.Read().body, absl::StrCat("POST /a? |", i));
  EXPECT_EQ(client.Read().body, "one two");
  const HttpReply last = client.Read();
  EXPECT_EQ(last.status, 200);
  EXPECT_EQ(last.Header("connection"), "close");
  EXPECT_TRUE(client.AwaitEnd());
}

TEST_F(HttpServerTest, BytesMayComeOneByOne) {
  Start();
  HttpClient client(server_->port());
  for (const char byte : PostText("/a", "hello")) client.Send(std::string(1, byte));
  EXPECT_EQ(client.Read().body, "POST /a? |hello");
}

TEST_F(HttpServerTest, HeadHasNoBody) {
  Start();
  HttpClient client(server_->port());
  const HttpReply reply = client.Ask("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.Header("content-length"), "10");
  EXPECT_EQ(client.Ask(GetText("/a")).body, "GET /a? |");
}

TEST_F(HttpServerTest, PathsAreComparedByteByByte) {
  Start();
  HttpClient client(server_->port());
  for (const char* path : {"/", "//a", "/a/", "/A", "/./a", "/x/../a", "/a%00", "/%61", "/items",
                           "/items/", "/items/%zz", "/items/%2", "*", "a"}) {
    const HttpReply reply = client.Ask(GetText(path));
    EXPECT_EQ(reply.status, 404) << path << " " << reply.head;
    EXPECT_THAT(reply.body, StartsWith("404 path: must be one that is served; got"));
  }
  EXPECT_EQ(client.Ask(GetText("/items/b%20c%2Fd/end")).body, "GET /items/b%20c%2Fd/end? b c/d |");
  EXPECT_EQ(client.Ask(GetText("/items/b/c")).body, "GET /items/b/c? b/c |");
  EXPECT_EQ(client.Ask(GetText("http://host:1/a?b")).body, "GET /a?b |");
  EXPECT_EQ(refused_, 14);
}

TEST_F(HttpServerTest, MethodsOfAPath) {
  Start();
  HttpClient client(server_->port());
  const HttpReply wrong = client.Ask("DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.Header("allow"), "GET, HEAD, POST");
  const HttpReply options = client.Ask("OPTIONS /a HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(options.status, 204);
  EXPECT_EQ(options.Header("allow"), "GET, HEAD, POST");
  EXPECT_EQ(client.Ask(GetText("/size")).status, 405);
}

TEST_F(HttpServerTest, ChunkedBodies) {
  Start();
  HttpClient client(server_->port());
  const std::string head = "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(client.Ask(head + "3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n").body, "POST /a? |abcde");
  EXPECT_EQ(client.Ask(head + "0\r\nTrailer: 1\r\n\r\n").body, "POST /a? |");
}

TEST_F(HttpServerTest, ExpectContinue) {
  Start();
  HttpClient client(server_->port());
  client.Send("POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.Read().status, 100);
  EXPECT_EQ(client.Ask("ab").body, "POST /a? |ab");
  client.Send("POST /no HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.Read().status, 404);
  EXPECT_TRUE(client.AwaitEnd());
  HttpClient other(server_->port());
  EXPECT_EQ(other.Ask(GetText("/a", "Expect: tea\r\n")).status, 417);
}

TEST_F(HttpServerTest, Http10) {
  Start();
  HttpClient client(server_->port());
  const HttpReply kept = client.Ask("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(kept.status, 200);
  EXPECT_EQ(kept.Header("connection"), "keep-alive");
  client.Send("GET /pieces HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(client.AwaitEnd());  // the end of the connection is that of the answer
  EXPECT_THAT(client.unread(), ::testing::EndsWith("\r\n\r\none two"));
}

TEST_F(HttpServerTest, ACutAnswerIsNoWholeAnswer) {
  Start();
  HttpClient client(server_->port());
  client.Send(GetText("/cut"));
  EXPECT_TRUE(client.AwaitEnd());
  EXPECT_THAT(client.unread(), ::testing::EndsWith("3\r\none\r\n"));
}

TEST_F(HttpServerTest, NobodyIsLeftWithoutAnAnswer) {
  Start();
  HttpClient client(server_->port());
  const HttpReply reply = client.Ask(GetText("/silent"));
  EXPECT_EQ(reply.status, 500);
  EXPECT_EQ(reply.body, "500 server: gave no answer");
}

TEST_F(HttpServerTest, RequestIdsAreLabels) {
  Start();
  HttpClient client(server_->port());
  EXPECT_THAT(client.Ask(GetText("/a")).Header("x-request-id"), StartsWith("req-"));
  EXPECT_EQ(client.Ask(GetText("/a", "X-Request-Id: mine\r\n")).Header("x-request-id"), "mine");
  const std::string odd = "a\xff\xc3\xa9\x1b[0m" + std::string(300, 'b');
  const HttpReply reply = client.Ask(GetText("/a", "X-Request-Id: " + odd + "\r\n"));
  if (reply.status == 200) {
    EXPECT_EQ(reply.Header("x-request-id"), "a????[0m" + std::string(120, 'b'));
  } else {
    EXPECT_EQ(reply.status, 400);  // no byte of a control may be in a header
  }
}

TEST_F(HttpServerTest, RequestsThatCouldBeReadTwoWays) {
  Start();
  const std::string post = "POST /a HTTP/1.1\r\nHost: x\r\n";
  for (const std::string& request :
       {post + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        post + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        post + "Transfer-Encoding: gzip\r\n\r\n", post + "Transfer-Encoding: xchunked\r\n\r\n",
        post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        post + "Transfer-Encoding: identity\r\n\r\n",
        post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        post + "Content-Length: +2\r\n\r\nab", post + "Content-Length: -1\r\n\r\nab",
        post + "Content-Length: 2, 2\r\n\r\nab", post + "Content-Length : 2\r\n\r\nab",
        post + "Host: y\r\n\r\n", std::string("GET /a HTTP/1.1\r\n\r\n"),
        post + "X: a\0b\r\n\r\n"}) {
    HttpClient client(server_->port());
    client.Send(request + GetText("/a"));
    const int status = client.Read().status;
    EXPECT_TRUE(status == 400 || status == 413 || status == 501) << status << "\n" << request;
    EXPECT_TRUE(client.AwaitEnd()) << request;
    EXPECT_EQ(client.unread(), "") << request;  // nothing behind it is taken for a request
  }
}

TEST_F(HttpServerTest, AnswersMayComeLate) {
  Start();
  HttpClient client(server_->port());
  client.Send(GetText("/wait") + GetText("/a"));
  const std::shared_ptr<Waiter> waiter = AwaitWaiter();
  ASSERT_NE(waiter, nullptr);
  HttpResponse response;
  response.body = "late";
  waiter->exchange().Respond(response);
  EXPECT_EQ(client.Read().body, "late");
  EXPECT_EQ(client.Read().body, "GET /a? |");
}

// Knows one token.
class OneToken : public Authorizer {
 public:
  absl::StatusOr<std::string> Check(absl::Span<const absl::string_view> values) const override {
    if (values.size() == 1 && values[0] == "Bearer secret") return std::string("tester");
    return absl::UnauthenticatedError("authorization: must be a valid bearer token");
  }
  absl::Status Reload() override { return absl::OkStatus(); }
};

TEST_F(HttpServerTest, G6_WithoutATokenOnlyOpenPathsAnswer) {
  const OneToken authorizer;
  HttpServerOptions options;
  options.authorizer = &authorizer;
  Start(options);
  HttpClient client(server_->port());
  for (const char* path : {"/a", "/nothing", "/items/x", "//open", "/open/", "/OPEN", "/open/../a",
                           "/%6fpen", "/firehose"}) {
    const HttpReply reply = client.Ask(GetText(path));
    EXPECT_EQ(reply.status, 401) << path;
    EXPECT_EQ(reply.Header("www-authenticate"), "Bearer");
  }
  EXPECT_EQ(client.Ask("OPTIONS /a HTTP/1.1\r\nHost: x\r\n\r\n").status, 401);
  EXPECT_EQ(client.Ask("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n").status, 401);
  EXPECT_EQ(client.Ask(GetText("/open")).status, 200);
  const std::string token = "Authorization: Bearer secret\r\n";
  EXPECT_EQ(client.Ask(GetText("/a", token)).body, "GET /a? tester|");
  EXPECT_EQ(client.Ask(GetText("/a", token + token)).status, 401);
  EXPECT_EQ(client.Ask(GetText("/nothing", token)).status, 404);
  // Nothing of a body is read before the token is known to be good.
  HttpClient large(server_->port());
  EXPECT_EQ(large.Ask("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\n").status,
            401);
}

TEST_F(HttpServerTest, WhenItWillStopEachAnswerIsTheLastOfItsConnection) {
  const auto leaving = std::make_shared<std::atomic<bool>>(false);
  HttpServerOptions options;
  options.leaving = [leaving] { return leaving->load(); };
  Start(options);
  HttpClient kept(server_->port());
  EXPECT_EQ(kept.Ask(GetText("/a")).Header("connection"), "");
  *leaving = true;
  const HttpReply last = kept.Ask(GetText("/a"));
  EXPECT_EQ(last.status, 200);
  EXPECT_EQ(last.Header("connection"), "close");
  EXPECT_TRUE(kept.AwaitEnd());
  *leaving = false;
  HttpClient waiting(server_->port());
  waiting.Send(GetText("/wait"));
  const auto waiter = AwaitWaiter();
  ASSERT_NE(waiter, nullptr);
  *leaving = true;
  waiter->exchange().Respond({});
  EXPECT_EQ(waiting.Read().Header("connection"), "close");
  HttpClient in_pieces(server_->port());
  const HttpReply pieces = in_pieces.Ask(GetText("/pieces"));
  EXPECT_EQ(pieces.body, "one two");
  EXPECT_EQ(pieces.Header("connection"), "close");
  EXPECT_TRUE(in_pieces.AwaitEnd());
}

TEST_F(HttpServerTest, ShutdownLetsAnswersEnd) {
  Start();
  HttpClient idle(server_->port()), busy(server_->port());
  EXPECT_EQ(idle.Ask(GetText("/a")).status, 200);
  busy.Send(GetText("/wait"));
  const std::shared_ptr<Waiter> waiter = AwaitWaiter();
  ASSERT_NE(waiter, nullptr);
  std::thread shutdown([this] { server_->Shutdown(absl::Seconds(10)); });
  EXPECT_TRUE(idle.AwaitEnd(absl::Seconds(5)));
  EXPECT_FALSE(HttpClient(server_->port()).Ask(GetText("/a")).status == 200);
  HttpResponse response;
  response.body = "last";
  waiter->exchange().Respond(response);
  const HttpReply reply = busy.Read();
  EXPECT_EQ(reply.body, "last");
  EXPECT_EQ(reply.Header("connection"), "close");
  busy.Close();
  shutdown.join();
  server_.reset();
}

TEST_F(HttpServerTest, ShutdownCutsWhatDoesNotEnd) {
  Start();
  HttpClient busy(server_->port());
  busy.Send(GetText("/wait"));
  const std::shared_ptr<Waiter> waiter = AwaitWaiter();
  ASSERT_NE(waiter, nullptr);
  server_->Shutdown(absl::Milliseconds(100));
  EXPECT_TRUE(waiter->AwaitGone());
  EXPECT_TRUE(busy.AwaitEnd());
  server_.reset();
  waiter->exchange().Respond({});  // outlives the server
}

TEST_F(HttpServerTest, AddressesThatCannotBeHad) {
  Start();
  HttpServerOptions options;
  options.port = server_->port();
  const auto second = HttpServer::Start(options, {});
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(absl::StrCat(server_->port())));
  options.port = 0;
  options.host = "no.such.host.invalid";
  EXPECT_TRUE(absl::IsUnavailable(HttpServer::Start(options, {}).status()));
  options.host = "::1";
  const auto ipv6 = HttpServer::Start(options, {});
  if (ipv6.ok()) {  // where the machine has it
    EXPECT_GT((*ipv6)->port(), 0);
  }
  options.host = "localhost";
  const auto named = HttpServer::Start(options, Routes());
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_EQ(HttpClient((*named)->port()).Ask(GetText("/a")).status, 200);
}

// Whatever the pieces are in which a request comes, it is the same request.
TEST(RequestReader, PiecesMakeNoDifference) {
  const std::string request =
      "POST /a?b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nX-A:  b \r\n\r\n"
      "3\r\nabc\r\n10;e=1\r\n0123456789abcdef\r\n0\r\n\r\n";
  for (size_t first = 1; first < request.size(); ++first) {
    RequestReader reader;
    std::string in;
    for (const std::string& piece :
         {request.substr(0, first), request.substr(first), std::string("GET")}) {
      in += piece;
      for (size_t used = 1; used > 0 && !in.empty();) {
        used = reader.Put(in);
        in.erase(0, used);
      }
    }
    ASSERT_EQ(reader.state(), RequestReader::State::kDone) << first << " " << reader.error();
    EXPECT_EQ(reader.request().body, "abc0123456789abcdef");
    EXPECT_EQ(reader.request().Header("x-a"), "b");
    EXPECT_EQ(reader.request().path, "/a");
    EXPECT_EQ(in, "GET");
  }
}

}  // namespace
}  // namespace pregate
