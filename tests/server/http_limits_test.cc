// The HTTP listener and clients that want too much, send too little or leave: rows B, F9 and V27 of
// the bad-input matrix.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>
#include <thread>

#include "tests/server/http_server_fixture.h"

namespace pregate {
namespace {

using HttpLimitsTest = HttpServerFixture;

int64_t ResidentBytes() {
  int64_t pages = 0;
  std::ifstream statm("/proc/self/statm");
  statm >> pages >> pages;
  return pages * sysconf(_SC_PAGESIZE);
}

TEST_F(HttpLimitsTest, B1_BodiesOverTheLimit) {
  Start();
  const std::string head = "POST /size HTTP/1.1\r\nHost: x\r\n";
  for (const char* length : {"16777217", "9223372036854775807", "18446744073709551615"}) {
    HttpClient client(server_->port());
    const HttpReply reply = client.Ask(absl::StrCat(head, "Content-Length: ", length, "\r\n\r\n"));
    EXPECT_EQ(reply.status, 413) << length;
    EXPECT_EQ(reply.Header("connection"), "close");
    EXPECT_TRUE(client.AwaitEnd());
  }
  HttpClient chunked(server_->port());
  chunked.Send(head + "Transfer-Encoding: chunked\r\n\r\n");
  const std::string chunk = "100000\r\n" + std::string(1 << 20, 'x') + "\r\n";
  for (int i = 0; i < 17 && chunked.Send(chunk); ++i) {
  }
  EXPECT_EQ(chunked.Read().status, 413);
  HttpClient fits(server_->port());
  EXPECT_EQ(fits.Ask(PostText("/size", std::string(16 << 20, 'x'))).body, "16777216");
}

TEST_F(HttpLimitsTest, B3_HeadsOverTheLimit) {
  Start();
  std::string many;
  for (int i = 0; i < 10000; ++i) absl::StrAppend(&many, "x-", i, ": a\r\n");
  for (const std::string& headers :
       {"x-long: " + std::string(65536, 'a') + "\r\n", many, std::string(20000, 'a')}) {
    HttpClient client(server_->port());
    EXPECT_EQ(client.Ask(GetText("/a", headers)).status, 431);
    EXPECT_TRUE(client.AwaitEnd());
  }
  HttpClient client(server_->port());
  EXPECT_EQ(client.Ask(GetText("/" + std::string(9000, 'a'))).status, 431);
  HttpClient fits(server_->port());
  EXPECT_EQ(fits.Ask(GetText("/a", "x: " + std::string(8000, 'a') + "\r\n")).status, 200);
}

TEST_F(HttpLimitsTest, B4_WhatIsNotServed) {
  Start();
  HttpClient client(server_->port());
  auto post = [&](const std::string& headers) {
    HttpClient one(server_->port());
    return one.Ask("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n" + headers + "\r\n{}")
        .status;
  };
  EXPECT_EQ(post("Content-Type: application/x-www-form-urlencoded\r\n"), 415);
  EXPECT_EQ(post("Content-Type: text/plain\r\n"), 415);
  EXPECT_EQ(post("Content-Encoding: gzip\r\n"), 415);
  EXPECT_EQ(post("Content-Type: Application/JSON; charset=utf-8\r\n"), 200);
  EXPECT_EQ(post(""), 200);
  // gRPC's greeting, TLS's, and others.
  for (const std::string& garbage :
       {std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), std::string("\x16\x03\x01\x02\x00\x01", 6),
        std::string("\0\0\0\0\r\n\r\n", 8), std::string("GET /a\r\n\r\n"),
        std::string("GET /a HTTP/1.1\nHost: x\n\n"), std::string(9000, '\xff'),
        std::string("GET /a HTTP/3.7\r\nHost: x\r\n\r\n")}) {
    HttpClient one(server_->port());
    one.Send(garbage + "\r\n\r\n");
    const int status = one.Read().status;
    EXPECT_TRUE(status == 400 || status == 431) << status << " " << garbage.substr(0, 20);
    EXPECT_TRUE(one.AwaitEnd());
  }
}

TEST_F(HttpLimitsTest, V27_AMillionChunks) {
  Start();
  const int64_t before = ResidentBytes();
  HttpClient client(server_->port());
  client.Send("POST /size HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  std::string chunks;
  for (int i = 0; i < 10000; ++i) chunks += "1\r\nx\r\n";
  for (int i = 0; i < 100; ++i) client.Send(chunks);
  EXPECT_EQ(client.Ask("0\r\n\r\n").body, "1000000");
  EXPECT_LT(ResidentBytes() - before, 8 << 20);
  HttpClient endless(server_->port());
  endless.Send("POST /size HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;");
  for (int i = 0; i < 100 && endless.Send(std::string(1000, 'e')); ++i) {
  }
  EXPECT_EQ(endless.Read().status, 400);
}

TEST_F(HttpLimitsTest, B6_WhoDoesNotSendTheRestIsNotWaitedFor) {
  HttpServerOptions options;
  options.request_timeout = absl::Seconds(1);
  Start(options);
  HttpClient half_head(server_->port()), half_body(server_->port()), silent(server_->port());
  HttpClient drip(server_->port());
  half_head.Send("GET /a HT");
  half_body.Send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nab");
  std::thread dripping([&drip] {
    while (drip.Send("a")) absl::SleepFor(absl::Milliseconds(100));
  });
  for (HttpClient* client : {&half_head, &half_body}) {
    const HttpReply reply = client->Read();
    EXPECT_EQ(reply.status, 408);
    EXPECT_EQ(reply.body, "408 request: must come within 1s");
    EXPECT_TRUE(client->AwaitEnd());
  }
  EXPECT_TRUE(silent.AwaitEnd(absl::Seconds(3)));
  EXPECT_EQ(silent.unread(), "");
  EXPECT_EQ(drip.Read().status, 408);
  dripping.join();
}

TEST_F(HttpLimitsTest, B6_ALargeBodyHasTheTimeThatItNeeds) {
  HttpServerOptions options;
  options.request_timeout = absl::Seconds(1);
  Start(options);
  HttpClient client(server_->port());
  client.Send("POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n");
  for (int i = 0; i < 20; ++i) {
    client.Send(std::string(100000, 'x'));
    absl::SleepFor(absl::Milliseconds(100));
  }
  EXPECT_EQ(client.Read().body, "2000000");
}

TEST_F(HttpLimitsTest, B7_AReaderThatStallsIsGivenUpAtABoundedCost) {
  HttpServerOptions options;
  options.stall_timeout = absl::Seconds(1);
  Start(options);
  HttpClient client(server_->port(), /*receive_buffer=*/65536);
  client.Send(GetText("/firehose"));
  started_.WaitForNotification();
  const absl::Status why = firehose_->AwaitGone();
  EXPECT_EQ(why, absl::CancelledError("call: must be read; its reader stalled for 1s"));
  EXPECT_LT(firehose_->written(), 2 << 20);
}

TEST_F(HttpLimitsTest, AReaderThatIsSlowIsNotGivenUp) {
  HttpServerOptions options;
  options.stall_timeout = absl::Seconds(1);
  Start(options);
  HttpClient client(server_->port(), /*receive_buffer=*/65536);
  client.Send(GetText("/firehose"));
  for (int i = 0; i < 25; ++i) {
    ASSERT_TRUE(client.ReadSome());
    absl::SleepFor(absl::Milliseconds(100));
  }
  client.Close();
  EXPECT_EQ(firehose_->AwaitGone().message(), "call: the client has left");
}

TEST_F(HttpLimitsTest, B8_AClientThatLeavesIsNoticedAtOnce) {
  Start();
  for (size_t round = 0; round < 4; ++round) {
    HttpClient client(server_->port());
    client.Send(GetText("/wait"));
    const std::shared_ptr<Waiter> waiter = AwaitWaiter(round);
    ASSERT_NE(waiter, nullptr);
    absl::SleepFor(absl::Milliseconds(20));
    const absl::Time left = absl::Now();
    if (round % 2 == 0) {
      client.Close();
    } else {
      client.Reset();
    }
    ASSERT_TRUE(waiter->AwaitGone());
    EXPECT_LT(waiter->gone_at() - left, absl::Milliseconds(200));
    EXPECT_EQ(waiter->why().message(), "call: the client has left");
    waiter->exchange().Respond({});  // does nothing
  }
}

TEST_F(HttpLimitsTest, WhoObservesTooLateIsTold) {
  Start();
  HttpClient client(server_->port());
  client.Send(GetText("/wait"));
  const std::shared_ptr<Waiter> waiter = AwaitWaiter();
  ASSERT_NE(waiter, nullptr);
  client.Close();
  ASSERT_TRUE(waiter->AwaitGone());
  const auto late = std::make_shared<Waiter>(nullptr);
  waiter->exchange().Observe(late);
  EXPECT_TRUE(late->AwaitGone());
}

TEST_F(HttpLimitsTest, B13_TheOldestIdleConnectionMakesRoom) {
  HttpServerOptions options;
  options.max_connections = 10;
  Start(options);
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 30; ++i) {
    clients.push_back(std::make_unique<HttpClient>(server_->port()));
    ASSERT_EQ(clients.back()->Ask(GetText("/a")).status, 200) << i;
  }
  EXPECT_LE(server_->connections(), 12);
  EXPECT_TRUE(clients[0]->AwaitEnd(absl::Seconds(5)));
  EXPECT_TRUE(clients[15]->AwaitEnd(absl::Seconds(5)));
  EXPECT_EQ(clients[29]->Ask(GetText("/a")).status, 200);
}

TEST_F(HttpLimitsTest, B13_WhenAllAreBusyTheNextIsTurnedAway) {
  HttpServerOptions options;
  options.max_connections = 4;
  Start(options);
  std::vector<std::unique_ptr<HttpClient>> busy;
  for (size_t i = 0; i < 4; ++i) {
    busy.push_back(std::make_unique<HttpClient>(server_->port()));
    busy.back()->Send(GetText("/wait"));
    ASSERT_NE(AwaitWaiter(i), nullptr);
  }
  HttpClient next(server_->port());
  const HttpReply reply = next.Read();
  EXPECT_EQ(reply.status, 503);
  EXPECT_NE(reply.Header("retry-after"), "");
  EXPECT_TRUE(next.AwaitEnd());
  busy.clear();
  for (int i = 0; i < 200 && server_->connections() > 0; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }
}

TEST_F(HttpLimitsTest, IdleConnectionsAreClosed) {
  HttpServerOptions options;
  options.idle_timeout = absl::Seconds(1);
  Start(options);
  HttpClient client(server_->port());
  EXPECT_EQ(client.Ask(GetText("/a")).status, 200);
  EXPECT_TRUE(client.AwaitEnd(absl::Seconds(4)));
}

TEST_F(HttpLimitsTest, F9_WithoutFileDescriptorsNobodyIsLost) {
  Start();
  rlimit saved;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &saved), 0);
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 40; ++i) {
    clients.push_back(std::make_unique<HttpClient>(server_->port()));
  }
  for (auto& client : clients) EXPECT_EQ(client->Ask(GetText("/a")).status, 200);
  // Both ends are of this process: the next connections have a descriptor at their own end only.
  std::vector<int> sockets;
  for (int i = 0; i < 3; ++i) sockets.push_back(HttpClient::NewSocket());
  const rlimit low{static_cast<rlim_t>(sockets.back()) + 1, saved.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  std::vector<std::unique_ptr<HttpClient>> more;
  for (const int fd : sockets) {
    more.push_back(std::make_unique<HttpClient>(server_->port(), 0, fd));
    EXPECT_TRUE(more.back()->connected());
    more.back()->Send(GetText("/a"));
  }
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_EQ(clients.back()->Ask(GetText("/a")).status, 200);  // those that are there are served
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &saved), 0);
  for (auto& client : more) EXPECT_EQ(client->Read().status, 200);
}

TEST_F(HttpLimitsTest, BodiesTogetherAreBounded) {
  HttpServerOptions options;
  options.max_body_memory = 4 << 20;
  Start(options);
  HttpClient first(server_->port()), second(server_->port());
  const std::string head = "POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n";
  first.Send(head + std::string(3900000, 'x'));
  absl::SleepFor(absl::Milliseconds(200));
  second.Send(head + std::string(3900000, 'x'));
  const HttpReply reply = second.Read();
  EXPECT_EQ(reply.status, 503);
  EXPECT_NE(reply.Header("retry-after"), "");
  first.Send(std::string(100000, 'x'));
  EXPECT_EQ(first.Read().body, "4000000");
  HttpClient third(server_->port());
  EXPECT_EQ(third.Ask(PostText("/size", std::string(3000000, 'x'))).body, "3000000");
}

}  // namespace
}  // namespace pregate
