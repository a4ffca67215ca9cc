// An HTTP client that says whatever a test wants: bytes out, bytes in.
#ifndef PREGATE_TESTS_SERVER_HTTP_CLIENT_H_
#define PREGATE_TESTS_SERVER_HTTP_CLIENT_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pregate {

struct HttpReply {
  int status = 0;  // 0: the connection ended before a whole reply
  std::string head;
  std::string body;

  // The value of a header (in lower case); "": there is none.
  std::string Header(const std::string& name) const {
    const size_t at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos) return "";
    const size_t begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
};

class HttpClient {
 public:
  static int NewSocket() { return socket(AF_INET, SOCK_STREAM, 0); }

  // `receive_buffer`: bytes that the system takes in unread; 0: its default. `fd`: of NewSocket.
  explicit HttpClient(int port, int receive_buffer = 0, int fd = NewSocket()) : fd_(fd) {
    if (receive_buffer > 0) {
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    }
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~HttpClient() { Close(); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  bool connected() const { return connected_; }
  int fd() const { return fd_; }

  // False: the server no longer takes it.
  bool Send(absl::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  // One more piece of what comes; false at the end, or after `timeout`.
  bool ReadSome(absl::Duration timeout = absl::Seconds(20)) {
    pollfd waiting{fd_, POLLIN, 0};
    if (poll(&waiting, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) <= 0) return false;
    char buffer[65536];
    const ssize_t got = recv(fd_, buffer, sizeof(buffer), 0);
    if (got <= 0) {
      ended_ = true;
      return false;
    }
    in_.append(buffer, static_cast<size_t>(got));
    return true;
  }
  // What has come and belongs to no reply yet.
  const std::string& unread() const { return in_; }

  // Waits until the server closes; false when it does not within `timeout`.
  bool AwaitEnd(absl::Duration timeout = absl::Seconds(20)) {
    const absl::Time end = absl::Now() + timeout;
    while (!ended_ && absl::Now() < end) ReadSome(end - absl::Now());
    return ended_;
  }

  // The next whole reply. `has_body` false: to a HEAD.
  HttpReply Read(bool has_body = true) {
    HttpReply reply;
    size_t end;
    while ((end = in_.find("\r\n\r\n")) == std::string::npos) {
      if (!ReadSome()) return reply;
    }
    reply.head = in_.substr(0, end + 2);
    in_.erase(0, end + 4);
    int status = 0;
    if (!absl::SimpleAtoi(reply.head.substr(9, 3), &status)) return reply;
    const std::string length = reply.Header("content-length");
    if (reply.Header("transfer-encoding") == "chunked") {
      if (!ReadChunks(&reply.body)) return reply;
    } else if (has_body && !length.empty()) {
      const size_t size = std::strtoull(length.c_str(), nullptr, 10);
      while (in_.size() < size) {
        if (!ReadSome()) return reply;
      }
      reply.body = in_.substr(0, size);
      in_.erase(0, size);
    }
    reply.status = status;
    return reply;
  }

  HttpReply Ask(const std::string& request) {
    Send(request);
    return Read(!absl::StartsWith(request, "HEAD"));
  }

  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  // The connection is torn down as by a process that dies with unread data.
  void Reset() {
    const linger at_once{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    Close();
  }

 private:
  bool ReadChunks(std::string* body) {
    for (;;) {
      size_t line;
      while ((line = in_.find("\r\n")) == std::string::npos) {
        if (!ReadSome()) return false;
      }
      const size_t size = std::strtoull(in_.c_str(), nullptr, 16);
      while (in_.size() < line + 2 + size + 2) {
        if (!ReadSome()) return false;
      }
      body->append(in_, line + 2, size);
      in_.erase(0, line + 2 + size + 2);
      if (size == 0) return true;
    }
  }

  int fd_;
  bool connected_ = false;
  bool ended_ = false;
  std::string in_;
};

inline std::string GetText(const std::string& path, const std::string& headers = "") {
  return absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\n", headers, "\r\n");
}

inline std::string PostText(const std::string& path, const std::string& body,
                            const std::string& headers = "") {
  return absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n",
                      headers, "Content-Length: ", body.size(), "\r\n\r\n", body);
}

}  // namespace pregate

#endif  // PREGATE_TESTS_SERVER_HTTP_CLIENT_H_
