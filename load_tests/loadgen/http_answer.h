// The bytes of an HTTP/1.1 answer, as they come: enough of the protocol for llama-server's.
#ifndef PREGATE_LOAD_TESTS_LOADGEN_HTTP_ANSWER_H_
#define PREGATE_LOAD_TESTS_LOADGEN_HTTP_ANSWER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pregate {

class HttpAnswer {
 public:
  // Takes the next bytes. False if they cannot be those of an answer.
  bool Feed(std::string_view bytes);

  int status() const { return status_; }  // 0 until the header has come
  // Whether the last chunk has come. A body that is not in chunks ends with the connection.
  bool is_done() const { return state_ == State::kEnd; }
  // What has come of the body, without what was taken as events.
  const std::string& body() const { return body_; }

  // The payloads of the server-sent events ("data: ...") that are whole; takes them off the body.
  std::vector<std::string> TakeEvents();

 private:
  enum class State : uint8_t { kHeader, kPlainBody, kChunkSize, kChunk, kChunkEnd, kEnd };

  // Each handles what `raw_` begins with; false while more bytes are needed.
  bool Step();
  bool ReadHeader();
  bool ReadChunkSize();

  State state_ = State::kHeader;
  bool is_broken_ = false;
  int status_ = 0;
  uint64_t chunk_left_ = 0;
  std::string raw_;  // bytes not handled yet
  std::string body_;
};

}  // namespace pregate

#endif  // PREGATE_LOAD_TESTS_LOADGEN_HTTP_ANSWER_H_
