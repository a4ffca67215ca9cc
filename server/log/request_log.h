// RequestLog: one line for each request, for people or for programs.
#ifndef PREGATE_SERVER_LOG_REQUEST_LOG_H_
#define PREGATE_SERVER_LOG_REQUEST_LOG_H_

#include <memory>
#include <string>

#include "server/config/config.h"
#include "server/metrics/metrics.h"

namespace pregate {

// The strings may come from a client: any bytes, any length.
struct RequestLogLine {
  std::string request_id;
  std::string method;
  std::string status;  // name of the call's status code
  std::string finish;  // of the first answer; empty when there was none
  std::string peer;
  AnswerRecord answer;  // tokens of all answers together, times of the first
  int answers = 0;
};

// Writes to standard error from a thread of its own: a reader that has stopped costs lines (the
// oldest ones), never a request's time. Thread-safe.
class RequestLog {
 public:
  explicit RequestLog(LogFormat format);
  ~RequestLog();  // writes what is left
  RequestLog(const RequestLog&) = delete;
  RequestLog& operator=(const RequestLog&) = delete;

  // Each string is cut at 256 bytes, and what is not printable ASCII in it is escaped: a line of
  // the log is a line.
  void Write(const RequestLogLine& line);

  // A line of the server's own, {"time": ..., "note": text} in JSON.
  void Note(const std::string& text);

 private:
  class Sink;
  LogFormat format_;
  std::unique_ptr<Sink> sink_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_LOG_REQUEST_LOG_H_
