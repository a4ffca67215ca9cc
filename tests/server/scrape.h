// Reads a metrics page as a scraper does: over HTTP, line by line.
#ifndef PREGATE_TESTS_SERVER_SCRAPE_H_
#define PREGATE_TESTS_SERVER_SCRAPE_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace pregate {

// A connection to the listener on loopback, closed at the end of its scope.
class Connection {
 public:
  explicit Connection(int port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  ~Connection() { close(socket_); }

  void Ask(const std::string& path) {
    const std::string request = absl::StrCat("GET ", path, " HTTP/1.0\r\nHost: test\r\n\r\n");
    EXPECT_EQ(send(socket_, request.data(), request.size(), MSG_NOSIGNAL), request.size());
  }
  std::string ReadToEnd() {
    std::string text;
    char buffer[4096];
    for (ssize_t n; (n = recv(socket_, buffer, sizeof(buffer), 0)) > 0;) text.append(buffer, n);
    return text;
  }

 private:
  int socket_;
};

inline std::string Get(int port, const std::string& path = "/metrics") {
  Connection connection(port);
  connection.Ask(path);
  return connection.ReadToEnd();
}

inline std::string Body(const std::string& response) {
  return response.substr(response.find("\r\n\r\n") + 4);
}

// Values by series, labels included, as the page spells them.
inline std::map<std::string, double> Values(const std::string& page) {
  std::map<std::string, double> values;
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(page, '\n'))) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.rfind(' ');
    double value = 0;
    EXPECT_TRUE(absl::SimpleAtod(line.substr(space + 1), &value)) << line;
    EXPECT_TRUE(values.emplace(line.substr(0, space), value).second) << "twice: " << line;
  }
  return values;
}

}  // namespace pregate

#endif  // PREGATE_TESTS_SERVER_SCRAPE_H_
