// A collector that answers what a test wants, and remembers what it was sent.
#ifndef PREGATE_TESTS_SERVER_FAKE_COLLECTOR_H_
#define PREGATE_TESTS_SERVER_FAKE_COLLECTOR_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pregate {

class FakeCollector {
 public:
  struct Post {
    absl::Time time;
    std::string head;
    std::string body;
  };

  FakeCollector() : listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_, 16), 0);
    socklen_t length = sizeof(address);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Run(); });
  }
  ~FakeCollector() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
    for (const int fd : silent_) close(fd);
  }

  int port() const { return port_; }

  // The next answers, in turn; when there is none left, 200. An empty one: it never answers.
  void Answer(std::vector<std::string> replies) {
    absl::MutexLock lock(&mutex_);
    replies_.assign(replies.begin(), replies.end());
  }
  static std::string Reply(int status, const std::string& headers = "",
                           const std::string& body = "") {
    return absl::StrCat("HTTP/1.1 ", status, " X\r\n", headers, "content-length: ", body.size(),
                        "\r\n\r\n", body);
  }

  std::vector<Post> WaitForPosts(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [this, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return posts_.size() >= count;
    };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(30)));
    return posts_;
  }
  size_t posts() {
    absl::MutexLock lock(&mutex_);
    return posts_.size();
  }

 private:
  void Run() {
    while (true) {
      const int fd = accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      Post post = Read(fd);
      std::string reply = Reply(200);
      {
        absl::MutexLock lock(&mutex_);
        posts_.push_back(std::move(post));
        if (!replies_.empty()) {
          reply = replies_.front();
          replies_.pop_front();
        }
      }
      if (reply.empty()) {
        silent_.push_back(fd);
        continue;
      }
      EXPECT_EQ(send(fd, reply.data(), reply.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(reply.size()));
      close(fd);
    }
  }

  static Post Read(int fd) {
    std::string text;
    size_t end = std::string::npos;
    size_t length = 0;
    char buffer[16384];
    while (end == std::string::npos || text.size() < end + length) {
      const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
      if (n <= 0) break;
      text.append(buffer, static_cast<size_t>(n));
      if (end != std::string::npos) continue;
      end = text.find("\r\n\r\n");
      if (end == std::string::npos) continue;
      end += 4;
      const size_t at = text.find("Content-Length: ");
      const size_t digits = at == std::string::npos ? 0 : at + 16;
      EXPECT_TRUE(
          absl::SimpleAtoi(text.substr(digits, text.find("\r\n", digits) - digits), &length));
    }
    if (end == std::string::npos) end = text.size();
    return {absl::Now(), text.substr(0, end), text.substr(end)};
  }

  const int listener_;
  int port_ = 0;
  std::vector<int> silent_;  // the thread's own
  absl::Mutex mutex_;
  std::deque<std::string> replies_ ABSL_GUARDED_BY(mutex_);
  std::vector<Post> posts_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace pregate

#endif  // PREGATE_TESTS_SERVER_FAKE_COLLECTOR_H_
