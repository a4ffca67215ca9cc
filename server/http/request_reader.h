// RequestReader: bytes of a connection, in whatever pieces they come, to one HTTP/1.1 request.
#ifndef PREGATE_SERVER_HTTP_REQUEST_READER_H_
#define PREGATE_SERVER_HTTP_REQUEST_READER_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/http/http_message.h"

namespace pregate {

inline constexpr int kMaxHeadBytes = 8 << 10;

// The library's parser stays behind this.
class RequestReader {
 public:
  enum class State : uint8_t {
    kHead,  // not all of the head has come
    kBody,  // the head has, not all of the body
    kDone,
    kBad,  // what came is no request that can be served; see error()
  };

  RequestReader();
  ~RequestReader();
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;

  // Takes what belongs to this request and returns how many bytes that was; what it left of them is
  // to be given again, with more behind it. Returns at the end of the head, once.
  size_t Put(absl::string_view bytes);

  State state() const { return state_; }
  // From kBody on; its body from kDone on. `peer`, `request_id`, `params`, `client` are others'.
  HttpRequest& request() { return request_; }
  int64_t body_bytes() const;
  bool keep_alive() const { return keep_alive_; }
  bool http_1_0() const { return http_1_0_; }
  bool expects_continue() const { return expects_continue_; }

  // Of kBad: what the client is told.
  int http_status() const { return http_status_; }
  const absl::Status& error() const { return error_; }

 private:
  struct Parser;

  void ReadHead();
  void ReadTarget(absl::string_view target);
  absl::Status CheckHead() const;
  void Fail(int http_status, const absl::Status& error);

  std::unique_ptr<Parser> parser_;
  State state_ = State::kHead;
  HttpRequest request_;
  bool keep_alive_ = false;
  bool http_1_0_ = false;
  bool expects_continue_ = false;
  int http_status_ = 0;
  absl::Status error_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_REQUEST_READER_H_
