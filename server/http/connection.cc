#include "server/http/connection.h"

#include <algorithm>
#include <boost/asio/error.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/generation/field_error.h"
#include "server/http/connection_exchange.h"
#include "server/http/http_text.h"

namespace pregate {
namespace {

constexpr size_t kSmallRead = 4 << 10;
constexpr size_t kLargeRead = 64 << 10;
// Of requests that are sent before the one ahead of them is answered. Beyond that nothing is read,
// and a client that leaves is noticed by what is written to it.
constexpr size_t kMaxPipelined = 64 << 10;
// A body has a second more for every so many bytes of it that have come.
constexpr int64_t kSlowestBody = 128 << 10;
constexpr std::chrono::seconds kLingerTime(2);

Connection::Clock::duration ToClock(absl::Duration duration) {
  return absl::ToChronoNanoseconds(duration);
}

}  // namespace

Connection::Connection(ServerShare* share, ConnectionHost* host, std::shared_ptr<Socket> socket,
                       std::string peer)
    : share_(share),
      host_(host),
      socket_(std::move(socket)),
      peer_(std::move(peer)),
      error_(share->options.error) {}

void Connection::Start() {
  deadline_ = Clock::now() + ToClock(share_->options.request_timeout);
  socket_->Handshake([self = shared_from_this()](const ErrorCode& error) {
    if (self->phase_ != Phase::kHandshake) return;
    if (error) return self->FailHandshake();
    // Who connects is expected to ask something.
    self->BecomeIdle(self->share_->options.request_timeout);
    self->Read();
  });
}

void Connection::FailHandshake() {
  if (share_->options.on_failed_handshake) share_->options.on_failed_handshake();
  Close();
}

void Connection::TurnAway() {
  reader_ = std::make_unique<RequestReader>();
  Refuse(503, absl::UnavailableError("server: has no room for another connection; come back"));
}

void Connection::Cut(const absl::Status& why) {
  if (phase_ == Phase::kClosed) return;
  const std::shared_ptr<HttpObserver> observer = observer_.lock();
  const bool unanswered = phase_ == Phase::kAnswering && !answer_ended_;
  const std::shared_ptr<Connection> self = shared_from_this();
  Close();
  if (unanswered && observer != nullptr) observer->OnGone(why);
}

void Connection::Drain() {
  close_after_ = true;
  if (phase_ == Phase::kIdle || phase_ == Phase::kHandshake) Close();
}

void Connection::CheckDeadline(Clock::time_point now) {
  if (writing_ && now > write_deadline_) {
    return Cut(
        absl::CancelledError(absl::StrCat("call: must be read; its reader stalled for ",
                                          absl::FormatDuration(share_->options.stall_timeout))));
  }
  if (phase_ == Phase::kAnswering) return;
  if (phase_ == Phase::kHandshake) {
    if (now > deadline_) FailHandshake();
    return;
  }
  if (phase_ != Phase::kReading) {
    if (now > deadline_) Close();
    return;
  }
  const std::chrono::seconds for_body(reader_->body_bytes() / kSlowestBody);
  if (now <= deadline_ + for_body) return;
  Refuse(408,
         absl::DeadlineExceededError(absl::StrCat(
             "request: must come within ", absl::FormatDuration(share_->options.request_timeout))));
}

// --- What comes ---

void Connection::BecomeIdle(absl::Duration patience) {
  phase_ = Phase::kIdle;
  deadline_ = Clock::now() + ToClock(patience);
  reader_.reset();
  host_->OnIdle(this);
}

void Connection::Read() {
  if (reading_ || read_closed_ || phase_ == Phase::kClosed) return;
  if (phase_ == Phase::kAnswering && in_.size() >= kMaxPipelined) return;
  const bool in_body = phase_ == Phase::kReading && reader_->state() == RequestReader::State::kBody;
  read_buffer_.resize(in_body ? kLargeRead : kSmallRead);
  if (!in_body) read_buffer_.shrink_to_fit();
  reading_ = true;
  socket_->ReadSome(absl::MakeSpan(read_buffer_),
                    [self = shared_from_this()](const ErrorCode& error, size_t bytes) {
                      self->OnRead(error, bytes);
                    });
}

void Connection::OnRead(const ErrorCode& error, size_t bytes) {
  reading_ = false;
  if (phase_ == Phase::kClosed) return;
  if (error) return OnReadError(error);
  if (phase_ != Phase::kLingering) in_.append(read_buffer_.data(), bytes);
  if (phase_ == Phase::kIdle || phase_ == Phase::kReading) return Parse();
  Read();
}

void Connection::OnReadError(const ErrorCode& error) {
  if (phase_ != Phase::kAnswering) return Close();
  // A client that has no more to say may still wait for an answer that is as good as there. For one
  // that takes long it would have kept its side open.
  if (error == boost::asio::error::eof && (answer_ended_ || observer_.expired())) {
    read_closed_ = true;
    close_after_ = true;
    return;
  }
  Cut(absl::CancelledError("call: the client has left"));
}

void Connection::Parse() {
  while ((phase_ == Phase::kIdle || phase_ == Phase::kReading) && !in_.empty()) {
    if (phase_ == Phase::kIdle) {
      // An empty line before a request is ignored (RFC 9112, 2.2).
      if (absl::StartsWith(in_, "\r\n")) in_.erase(0, 2);
      if (in_.empty() || in_ == "\r") break;
      BeginRequest();
    }
    const bool head_was_there = reader_->state() == RequestReader::State::kBody;
    const size_t used = reader_->Put(in_);
    in_.erase(0, used);
    if (reader_->state() == RequestReader::State::kBad) {
      Refuse(reader_->http_status(), reader_->error());
      break;
    }
    if (!CountBody()) {
      Refuse(503, absl::UnavailableError("body: must wait, too many others are being read"));
      break;
    }
    if (!head_was_there && reader_->state() != RequestReader::State::kHead) OnHead();
    if (phase_ != Phase::kReading) break;  // refused
    if (reader_->state() == RequestReader::State::kDone) return Dispatch();
    if (used == 0) break;
  }
  Read();
}

void Connection::BeginRequest() {
  host_->OnBusy(this);
  phase_ = Phase::kReading;
  deadline_ = Clock::now() + ToClock(share_->options.request_timeout);
  reader_ = std::make_unique<RequestReader>();
  route_ = nullptr;
  error_ = share_->options.error;
  request_id_.clear();
  head_only_ = false;
  // Given back when the handler has read the request, or it is refused.
  counted_body_ = std::shared_ptr<int64_t>(new int64_t(0), [share = share_](int64_t* bytes) {
    share->body_memory -= *bytes;
    delete bytes;
  });
}

bool Connection::CountBody() {
  const int64_t more = reader_->body_bytes() - *counted_body_;
  *counted_body_ += more;
  return (share_->body_memory += more) <= share_->options.max_body_memory;
}

void Connection::OnHead() {
  HttpRequest& request = reader_->request();
  request.peer = peer_;
  request.request_id = RequestLabel(request.Header("x-request-id"));
  request_id_ = request.request_id;
  head_only_ = request.method == "HEAD";
  RouteTable::Match match = share_->routes.Find(request.method, request.path);
  if (match.route != nullptr && match.route->error != nullptr) error_ = match.route->error;
  if (!Authorize(match.route) || !CheckRoute(match) || !CheckBody(*match.route)) return;
  route_ = match.route;
  request.params = std::move(match.params);
  if (reader_->expects_continue() && reader_->state() == RequestReader::State::kBody) {
    Send("HTTP/1.1 100 Continue\r\n\r\n");
  }
}

// What nobody may call without a token is not even said to be there.
bool Connection::Authorize(const HttpRoute* route) {
  const Authorizer* authorizer = share_->options.authorizer;
  if (authorizer == nullptr || (route != nullptr && !route->needs_token)) return true;
  HttpRequest& request = reader_->request();
  std::vector<absl::string_view> values;
  for (const auto& [name, value] : request.headers) {
    if (name == "authorization") values.push_back(value);
  }
  absl::StatusOr<std::string> client = authorizer->Check(values);
  if (client.ok()) {
    request.client = *std::move(client);
    return true;
  }
  Refuse(HttpStatusOf(client.status()), client.status());
  return false;
}

bool Connection::CheckRoute(const RouteTable::Match& match) {
  const HttpRequest& request = reader_->request();
  if (match.route == nullptr) {
    Refuse(404, absl::NotFoundError(
                    absl::StrCat("path: must be one that is served; got ", Quoted(request.path))));
    return false;
  }
  if (match.method_fits) return true;
  Refuse(request.method == "OPTIONS" ? 204 : 405,
         absl::UnimplementedError(absl::StrCat("method: must be one of ", match.allow, "; got ",
                                               Quoted(request.method))),
         match.allow);
  return false;
}

bool Connection::CheckBody(const HttpRoute& route) {
  const HttpRequest& request = reader_->request();
  const absl::string_view expect = request.Header("expect");
  if (!expect.empty() && !reader_->expects_continue()) {
    Refuse(417, FieldError("expect", "be 100-continue", expect));
    return false;
  }
  const bool has_body = reader_->state() == RequestReader::State::kBody;
  if (has_body && route.at_once) {  // they answer without a token: nobody may fill memory there
    Refuse(413, FieldError("body", "be absent", "one"));
    return false;
  }
  const absl::string_view encoding = request.Header("content-encoding");
  if (has_body && !encoding.empty() && !absl::EqualsIgnoreCase(encoding, "identity")) {
    Refuse(415, FieldError("content-encoding", "be absent", encoding));
    return false;
  }
  const absl::string_view type = request.Header("content-type");
  if (has_body && !route.content_type.empty() && !type.empty() &&
      MediaType(type) != route.content_type) {
    Refuse(415, FieldError("content-type", absl::StrCat("be ", route.content_type), type));
    return false;
  }
  return true;
}

void Connection::Dispatch() {
  phase_ = Phase::kAnswering;
  answer_ended_ = false;
  tell_written_ = false;
  if (!reader_->keep_alive()) close_after_ = true;
  std::shared_ptr<HttpExchange> exchange = std::make_shared<ConnectionExchange>(
      host_->mailbox(), weak_from_this(), serial_, std::move(reader_->request()), error_);
  if (route_->at_once) {
    counted_body_.reset();
    route_->handler(std::move(exchange));
  } else {
    share_->workers.Post([exchange = std::move(exchange), route = route_,
                          counted = std::move(counted_body_)] { route->handler(exchange); });
  }
  Read();  // to notice it when the client leaves
}

void Connection::Refuse(int http_status, const absl::Status& status, std::string allow) {
  if (phase_ == Phase::kIdle) host_->OnBusy(this);
  phase_ = Phase::kAnswering;
  answer_ended_ = false;
  tell_written_ = false;
  counted_body_.reset();
  // Of a request that has not come to its end nobody knows where the next one begins.
  if (reader_->state() != RequestReader::State::kDone || !reader_->keep_alive()) {
    close_after_ = true;
  }
  HttpRequest& request = reader_->request();
  request.peer = peer_;
  if (http_status != 204 && share_->options.on_refused) {
    share_->options.on_refused(request, status);
  }
  HttpResponse response;
  if (http_status != 204) response = HttpRefusal(http_status, status, error_);
  response.status = http_status;
  if (!allow.empty()) response.headers.emplace_back("allow", std::move(allow));
  Respond(response);
}

// --- What goes ---

void Connection::Observe(std::weak_ptr<HttpObserver> observer) {
  observer_ = std::move(observer);
  if (read_closed_) Cut(absl::CancelledError("call: the client has left"));
}

void Connection::Respond(const HttpResponse& response) {
  if (share_->leaving()) close_after_ = true;
  const std::string framing =
      response.status == 204 ? "" : absl::StrCat("content-length: ", response.body.size(), "\r\n");
  std::string bytes = HeadOf(response, framing);
  if (!head_only_) bytes += response.body;
  answer_ended_ = true;
  Send(std::move(bytes));
}

void Connection::Begin(const HttpResponse& head) {
  if (share_->leaving()) close_after_ = true;
  chunked_ = !reader_->http_1_0();
  if (!chunked_) close_after_ = true;  // its end is the connection's
  head_ = HeadOf(head, chunked_ ? "transfer-encoding: chunked\r\n" : "");
}

std::string Connection::Framed(absl::string_view piece) const {
  return chunked_ ? Chunk(piece) : std::string(piece);
}

void Connection::Write(absl::string_view piece) {
  tell_written_ = true;
  Send(std::exchange(head_, "") + Framed(piece));
}

void Connection::End(absl::string_view piece) {
  answer_ended_ = true;
  Send(std::exchange(head_, "") + Framed(piece) + (chunked_ ? "0\r\n\r\n" : ""));
}

void Connection::CutAnswer(absl::string_view piece) {
  answer_ended_ = true;
  close_after_ = true;
  Send(std::exchange(head_, "") + Framed(piece));
}

std::string Connection::HeadOf(const HttpResponse& response, absl::string_view framing) const {
  absl::string_view persistence;
  if (close_after_) {
    persistence = "close";
  } else if (reader_->http_1_0()) {
    persistence = "keep-alive";
  }
  return ResponseHead(response, framing, persistence, request_id_);
}

void Connection::Send(std::string bytes) {
  if (queued_.empty()) {
    queued_ = std::move(bytes);
  } else {
    queued_ += bytes;
  }
  Flush();
}

void Connection::Flush() {
  if (writing_) return;
  out_ = std::exchange(queued_, "");
  out_sent_ = 0;
  writing_ = true;
  write_deadline_ = Clock::now() + ToClock(share_->options.stall_timeout);
  WriteMore();
}

void Connection::WriteMore() {
  socket_->WriteSome(absl::string_view(out_).substr(out_sent_),
                     [self = shared_from_this()](const ErrorCode& error, size_t bytes) {
                       self->OnWrote(error, bytes);
                     });
}

void Connection::OnWrote(const ErrorCode& error, size_t bytes) {
  if (phase_ == Phase::kClosed) return;
  if (error) return Cut(absl::CancelledError("call: the client has left"));
  out_sent_ += bytes;
  if (out_sent_ < out_.size()) {
    write_deadline_ = Clock::now() + ToClock(share_->options.stall_timeout);
    return WriteMore();
  }
  writing_ = false;
  out_ = std::string();  // a large one is not kept
  if (!queued_.empty()) return Flush();
  if (answer_ended_) return FinishAnswer();
  if (!tell_written_) return;
  tell_written_ = false;
  if (const std::shared_ptr<HttpObserver> observer = observer_.lock()) observer->OnWritten();
}

void Connection::FinishAnswer() {
  ++serial_;
  observer_.reset();
  answer_ended_ = false;
  if (close_after_) return Linger();
  BecomeIdle(share_->options.idle_timeout);
  Parse();
}

// A client that is still sending would lose the answer if the connection were closed at once.
void Connection::Linger() {
  if (read_closed_) return Close();
  phase_ = Phase::kLingering;
  deadline_ = Clock::now() + kLingerTime;
  in_ = std::string();
  reader_.reset();
  ErrorCode ignored;
  socket_->tcp().shutdown(boost::asio::ip::tcp::socket::shutdown_send, ignored);
  Read();
}

void Connection::Close() {
  if (phase_ == Phase::kClosed) return;
  const std::shared_ptr<Connection> self = shared_from_this();
  phase_ = Phase::kClosed;
  ++serial_;
  counted_body_.reset();
  ErrorCode ignored;
  socket_->tcp().close(ignored);
  host_->OnClosed(this);
}

}  // namespace pregate
