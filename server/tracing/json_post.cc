#include "server/tracing/json_post.h"

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace pregate {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using ErrorCode = boost::system::error_code;
using Tcp = asio::ip::tcp;

constexpr auto kSlice = std::chrono::milliseconds(50);
constexpr uint64_t kMaxReplyBytes = 64 << 10;
constexpr uint32_t kMaxHeadBytes = 8 << 10;

// A connection whose operations are waited for, one at a time, until they end or must end.
class Caller {
 public:
  explicit Caller(const MovingDeadline& deadline) : deadline_(deadline) {}

  absl::StatusOr<PostReply> Call(const std::vector<std::string>& addresses, const CollectorUrl& url,
                                 const std::string& body) {
    std::vector<Tcp::endpoint> endpoints;
    for (const std::string& address : addresses) {
      ErrorCode error;
      const asio::ip::address read = asio::ip::make_address(address, error);
      if (!error) endpoints.emplace_back(read, static_cast<uint16_t>(url.port));
    }
    absl::Status status = Wait("connect", [&](auto done) {
      asio::async_connect(socket_, endpoints,
                          [done](const ErrorCode& error, const Tcp::endpoint&) { done(error); });
    });
    if (!status.ok()) return status;
    const http::request<http::string_body> request = RequestOf(url, body);
    status = Wait("send", [&](auto done) {
      http::async_write(socket_, request, [done](const ErrorCode& error, size_t) { done(error); });
    });
    if (!status.ok()) return status;
    return ReadReply();
  }

 private:
  static http::request<http::string_body> RequestOf(const CollectorUrl& url,
                                                    const std::string& body) {
    http::request<http::string_body> request(http::verb::post, url.path, 11);
    request.set(http::field::host, url.authority());
    request.set(http::field::user_agent, "pregate/" PREGATE_VERSION);
    request.set(http::field::content_type, "application/json");
    request.set(http::field::connection, "close");
    request.body() = body;
    request.prepare_payload();
    return request;
  }

  absl::StatusOr<PostReply> ReadReply() {
    http::response_parser<http::string_body> parser;
    parser.header_limit(kMaxHeadBytes);
    parser.body_limit(kMaxReplyBytes);
    // Chunks' heads and trailers have no limit of their own.
    boost::beast::flat_buffer buffer(kMaxReplyBytes + kMaxHeadBytes);
    const absl::Status status = Wait("read", [&](auto done) {
      http::async_read(socket_, buffer, parser,
                       [done](const ErrorCode& error, size_t) { done(error); });
    });
    // A head is an answer, whatever became of what stands behind it.
    if (!parser.is_header_done()) return status;
    const auto& response = parser.get();
    PostReply reply;
    reply.http_status = static_cast<int>(response.result_int());
    const auto retry_after = response[http::field::retry_after];
    reply.retry_after = std::string(retry_after.data(), retry_after.size());
    if (status.ok()) reply.body = response.body();
    return reply;
  }

  template <typename Start>
  absl::Status Wait(const char* what, Start start) {
    bool ended = false;
    ErrorCode error;
    start([&ended, &error](const ErrorCode& result) {
      ended = true;
      error = result;
    });
    while (!ended && absl::Now() < deadline_()) {
      context_.restart();
      context_.run_one_for(kSlice);
    }
    const bool late = !ended;
    if (late) {
      ErrorCode ignored;
      socket_.close(ignored);
    }
    while (!ended) {  // what was started still refers to what stands above
      context_.restart();
      context_.run_one();
    }
    if (late) return absl::DeadlineExceededError(absl::StrCat(what, ": takes too long"));
    if (error) return absl::UnavailableError(absl::StrCat(what, ": ", error.message()));
    return absl::OkStatus();
  }

  const MovingDeadline& deadline_;
  asio::io_context context_{1};
  Tcp::socket socket_{context_};
};

}  // namespace

absl::StatusOr<PostReply> PostJson(const CollectorUrl& url, const std::string& body,
                                   HostLookup* lookup, const MovingDeadline& deadline) {
  const auto addresses = lookup->Find(url.host, deadline);
  if (!addresses.ok()) return addresses.status();
  try {
    return Caller(deadline).Call(*addresses, url, body);
  } catch (const std::exception& error) {  // no file descriptor is left
    return absl::UnavailableError(error.what());
  }
}

}  // namespace pregate
