// RequestLog: one line for each request, for people or for programs.
#ifndef PREGATE_SERVER_LOG_REQUEST_LOG_H_
#define PREGATE_SERVER_LOG_REQUEST_LOG_H_

#include <memory>
#include <string>

#include "server/config/config.h"
#include "server/tracing/request_record.h"

namespace pregate {

class Tracer;

// Writes to standard error from a thread of its own: a reader that has stopped costs lines (the
// oldest ones), never a request's time. Thread-safe.
class RequestLog {
 public:
  explicit RequestLog(LogFormat format);
  ~RequestLog();  // writes what is left
  RequestLog(const RequestLog&) = delete;
  RequestLog& operator=(const RequestLog&) = delete;

  // From now on requests that are written are traced, too. Call before the first. `tracer` must
  // outlive what writes.
  void TraceWith(Tracer* tracer) { tracer_ = tracer; }

  // The request has ended just now. Each string is cut at 256 bytes, and what is not printable
  // ASCII in it is escaped: a line of the log is a line.
  void Write(const RequestRecord& record);
  // The same for one that was turned away at the door, which is not traced: whoever may not ask
  // must not fill the traces of those who may.
  void WriteUntraced(const RequestRecord& record);

  // A line of the server's own, {"time": ..., "note": text} in JSON.
  void Note(const std::string& text);

 private:
  class Sink;

  void WriteLine(const RequestRecord& record, const std::string& trace_id);

  LogFormat format_;
  Tracer* tracer_ = nullptr;
  std::unique_ptr<Sink> sink_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_LOG_REQUEST_LOG_H_
