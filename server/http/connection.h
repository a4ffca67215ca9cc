// Connection: one client's connection, request after request. Private to server/http.
#ifndef PREGATE_SERVER_HTTP_CONNECTION_H_
#define PREGATE_SERVER_HTTP_CONNECTION_H_

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "server/http/http_exchange.h"
#include "server/http/mailbox.h"
#include "server/http/request_reader.h"
#include "server/http/route_table.h"
#include "server/http/socket.h"
#include "server/http/worker_pool.h"

namespace pregate {

// What all connections of a server share.
struct ServerShare {
  ServerShare(const HttpServerOptions& server_options, std::vector<HttpRoute> server_routes)
      : options(server_options),
        routes(std::move(server_routes)),
        workers(server_options.worker_threads) {}

  // Whether connections end with the answers that begin now.
  bool leaving() const { return stopping || (options.leaving && options.leaving()); }

  const HttpServerOptions options;
  const RouteTable routes;
  std::atomic<bool> stopping = false;    // before the I/O threads know it, one after the other
  std::atomic<int64_t> body_memory = 0;  // bytes of bodies that are being read or understood
  absl::Mutex mutex;
  int connections ABSL_GUARDED_BY(mutex) = 0;
  WorkerPool workers;  // last: its threads use the rest
};

class Connection;

// The I/O thread that a connection belongs to, told when it begins and ceases to wait for a
// request.
class ConnectionHost {
 public:
  virtual ~ConnectionHost() = default;
  virtual void OnIdle(Connection* connection) = 0;
  virtual void OnBusy(Connection* connection) = 0;
  virtual void OnClosed(Connection* connection) = 0;
  virtual const std::shared_ptr<Mailbox>& mailbox() = 0;
};

// Everything in it happens on its host's thread; nothing is locked.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Clock = std::chrono::steady_clock;

  Connection(ServerShare* share, ConnectionHost* host, std::shared_ptr<Socket> socket,
             std::string peer);

  void Start();
  // In place of Start: there is no room.
  void TurnAway();
  // Ends it at once; whoever answers it is told.
  void Cut(const absl::Status& why);
  // Ends it after the answer that is being given, if any.
  void Drain();
  void CheckDeadline(Clock::time_point now);

  // For exchanges. The exchange with another serial number is over.
  uint64_t serial() const { return serial_; }
  void Observe(std::weak_ptr<HttpObserver> observer);
  void Respond(const HttpResponse& response);
  void Begin(const HttpResponse& head);
  void Write(absl::string_view piece);
  void End(absl::string_view piece);
  void CutAnswer(absl::string_view piece);

 private:
  enum class Phase : uint8_t { kHandshake, kIdle, kReading, kAnswering, kLingering, kClosed };
  using ErrorCode = boost::system::error_code;

  void FailHandshake();
  void Read();
  void OnRead(const ErrorCode& error, size_t bytes);
  void OnReadError(const ErrorCode& error);
  void BecomeIdle(absl::Duration patience);
  void Parse();
  void BeginRequest();
  bool CountBody();
  void OnHead();
  bool Authorize(const HttpRoute* route);
  bool CheckRoute(const RouteTable::Match& match);
  bool CheckBody(const HttpRoute& route);
  void Dispatch();
  void Refuse(int http_status, const absl::Status& status, std::string allow = "");

  std::string HeadOf(const HttpResponse& response, absl::string_view framing) const;
  std::string Framed(absl::string_view piece) const;
  void Send(std::string bytes);
  void Flush();
  void WriteMore();
  void OnWrote(const ErrorCode& error, size_t bytes);
  void FinishAnswer();
  void Linger();
  void Close();

  ServerShare* const share_;
  ConnectionHost* const host_;
  const std::shared_ptr<Socket> socket_;
  const std::string peer_;
  Phase phase_ = Phase::kHandshake;
  Clock::time_point deadline_;  // of the phase
  bool close_after_ = false;    // this answer

  // What comes.
  bool reading_ = false;
  bool read_closed_ = false;
  std::vector<char> read_buffer_;
  std::string in_;  // not understood yet
  std::unique_ptr<RequestReader> reader_;
  const HttpRoute* route_ = nullptr;
  HttpErrorFormat error_ = nullptr;
  std::shared_ptr<int64_t> counted_body_;  // bytes that body_memory holds for this request

  // What goes.
  uint64_t serial_ = 0;
  std::weak_ptr<HttpObserver> observer_;
  std::string request_id_;
  bool head_only_ = false;
  bool chunked_ = false;
  std::string head_;  // of an answer in pieces, to go with the first
  bool tell_written_ = false;
  bool answer_ended_ = false;
  bool writing_ = false;
  std::string out_;  // being written
  size_t out_sent_ = 0;
  std::string queued_;
  Clock::time_point write_deadline_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_CONNECTION_H_
