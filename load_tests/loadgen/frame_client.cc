#include "load_tests/loadgen/frame_client.h"

#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "load_tests/loadgen/timed_socket.h"
#include "pregate/v1/inference.pb.h"

namespace pregate {
namespace {

constexpr double kConnectPatienceS = 5.0;
// Longest wait for the network: how late a request's own time limit may be seen.
constexpr double kLongestWaitS = 0.1;
constexpr size_t kFrameHeader = 9;     // of HTTP/2: three bytes of length, type, flags, stream
constexpr size_t kMessageHeader = 5;   // of gRPC: a flag and four bytes of length
constexpr uint32_t kWindow = 1 << 20;  // bytes that may be on their way: never what one waits for

std::string Framed(const std::string& message) {
  std::string bytes(1, '\0');  // not compressed
  for (int shift = 24; shift >= 0; shift -= 8) {
    bytes.push_back(static_cast<char>(message.size() >> shift & 0xff));
  }
  return bytes + message;
}

size_t BigEndian(std::string_view bytes) {
  size_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

std::string RequestBody(const std::vector<uint32_t>& prompt, int32_t max_tokens) {
  v1::GenerateRequest request;
  request.mutable_token_ids()->mutable_ids()->Assign(prompt.begin(), prompt.end());
  request.mutable_sampling()->set_max_tokens(max_tokens);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_ignore_eos(true);
  return Framed(request.SerializeAsString());
}

class Connection;

// One request on its way.
struct Call {
  RequestRecord* record = nullptr;
  std::string request;  // not sent yet
  std::string answer;   // of its messages, what has come and is not a whole one
  std::string http_status, grpc_status;
  Connection* connection = nullptr;
  int32_t stream = 0;                  // of the connection
  std::list<Call>::iterator position;  // in the list of those on their way
};

// Of the messages that are whole, the tokens at `now`; false if they are none.
bool TakeMessages(Call* call, double now) {
  std::string_view bytes = call->answer;
  while (bytes.size() >= kMessageHeader) {
    const size_t length = BigEndian(bytes.substr(1, kMessageHeader - 1));
    if (bytes.size() < kMessageHeader + length) break;
    v1::GenerateResponse message;
    if (!message.ParseFromArray(bytes.data() + kMessageHeader, static_cast<int>(length))) {
      return false;
    }
    if (message.token_ids_size() > 0) {
      call->record->token_s.push_back(now);
      call->record->token_counts.push_back(message.token_ids_size());
    }
    bytes.remove_prefix(kMessageHeader + length);
  }
  call->answer.erase(0, call->answer.size() - bytes.size());
  return true;
}

nghttp2_nv Header(std::string_view name, std::string_view value) {
  // The library copies both and changes neither.
  return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NONE};
}

class Connection {
 public:
  // `on_end`: a call's stream has ended; not called for those that are left when this breaks.
  Connection(int fd, const Pace* pace, std::function<void(Call*)> on_end)
      : fd_(fd), pace_(pace), on_end_(std::move(on_end)) {
    nghttp2_session_callbacks* callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnClose);
    nghttp2_session_client_new(&session_, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry window = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindow};
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &window, 1);
    nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kWindow);
  }
  ~Connection() {
    nghttp2_session_del(session_);
    close(fd_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int fd() const { return fd_; }
  bool is_open() const { return is_open_; }
  short Interest() const { return static_cast<short>(out_.empty() ? POLLIN : POLLIN | POLLOUT); }

  // Has the call's request sent with the next Flush. False if that cannot be.
  bool Begin(Call* call, const std::string& authority, double timeout_s) {
    const std::string timeout = absl::StrCat(static_cast<int64_t>(1e3 * timeout_s), "m");
    const std::array headers = {
        Header(":method", "POST"),       Header(":scheme", "http"),
        Header(":authority", authority), Header(":path", "/pregate.v1.Inference/Generate"),
        Header("te", "trailers"),        Header("content-type", "application/grpc"),
        Header("grpc-timeout", timeout)};
    nghttp2_data_provider body = {{.ptr = call}, ReadRequest};
    call->connection = this;
    call->stream =
        nghttp2_submit_request(session_, nullptr, headers.data(), headers.size(), &body, call);
    return is_open_ && call->stream > 0;
  }

  // Nothing more is told of the call.
  void Drop(Call* call) {
    nghttp2_session_set_stream_user_data(session_, call->stream, nullptr);
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, call->stream, NGHTTP2_CANCEL);
  }

  // Receives what has come. Frame by frame, so that each has its own time.
  void Advance() {
    while (is_open_) {
      const ssize_t got =
          Receive(fd_, absl::MakeSpan(buffer_).subspan(have_, want_ - have_), &waited_s_);
      if (got < 0 && errno == EAGAIN) return;
      have_ += static_cast<size_t>(std::max<ssize_t>(got, 0));
      is_open_ = got > 0 && (have_ < want_ || TakePiece());
    }
  }

  // Sends what it can.
  void Flush() {
    const uint8_t* bytes = nullptr;
    ssize_t count;
    while ((count = nghttp2_session_mem_send(session_, &bytes)) > 0) {
      out_.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(count));
    }
    if (!is_open_ || out_.empty()) return;
    const ssize_t sent = send(fd_, out_.data(), out_.size(), MSG_NOSIGNAL);
    if (sent > 0) out_.erase(0, static_cast<size_t>(sent));
    is_open_ = sent >= 0 || errno == EAGAIN;
  }

 private:
  // A frame's header, or (a part of) its payload.
  bool TakePiece() {
    if (left_ == 0) {
      left_ = BigEndian({buffer_.data(), 3});
    } else {
      left_ -= have_;
    }
    const auto* bytes = reinterpret_cast<const uint8_t*>(buffer_.data());
    const bool taken =
        nghttp2_session_mem_recv(session_, bytes, have_) == static_cast<ssize_t>(have_);
    have_ = 0;
    want_ = left_ == 0 ? kFrameHeader : std::min(left_, buffer_.size());
    return taken;
  }

  static Call* CallOf(nghttp2_session* session, int32_t stream) {
    return static_cast<Call*>(nghttp2_session_get_stream_user_data(session, stream));
  }

  static ssize_t ReadRequest(nghttp2_session*, int32_t, uint8_t* to, size_t length, uint32_t* flags,
                             nghttp2_data_source* source, void*) {
    std::string& request = static_cast<Call*>(source->ptr)->request;
    const size_t count = std::min(length, request.size());
    std::memcpy(to, request.data(), count);
    request.erase(0, count);
    if (request.empty()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(count);
  }

  static int OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_length, const uint8_t* value, size_t value_length, uint8_t,
                      void*) {
    Call* call = CallOf(session, frame->hd.stream_id);
    if (call == nullptr) return 0;
    const std::string_view key(reinterpret_cast<const char*>(name), name_length);
    const std::string text(reinterpret_cast<const char*>(value), value_length);
    if (key == ":status") call->http_status = text;
    if (key == "grpc-status") call->grpc_status = text;
    if (key == "grpc-message") call->record->error = text;
    return 0;
  }

  static int OnData(nghttp2_session* session, uint8_t, int32_t stream, const uint8_t* bytes,
                    size_t length, void* user) {
    const auto* self = static_cast<Connection*>(user);
    Call* call = CallOf(session, stream);
    if (call == nullptr) return 0;
    call->answer.append(reinterpret_cast<const char*>(bytes), length);
    return TakeMessages(call, self->pace_->Now() - self->waited_s_) ? 0
                                                                    : NGHTTP2_ERR_CALLBACK_FAILURE;
  }

  static int OnClose(nghttp2_session* session, int32_t stream, uint32_t, void* user) {
    const auto* self = static_cast<Connection*>(user);
    Call* call = CallOf(session, stream);
    if (call != nullptr) self->on_end_(call);
    return 0;
  }

  const int fd_;
  const Pace* const pace_;
  const std::function<void(Call*)> on_end_;
  nghttp2_session* session_ = nullptr;
  bool is_open_ = true;
  std::string out_;  // not sent yet
  std::array<char, 1 << 14> buffer_;
  size_t have_ = 0, want_ = kFrameHeader;  // bytes of the piece that is being read
  size_t left_ = 0;                        // of the frame's payload; 0: its header is next
  double waited_s_ = 0;                    // with the kernel, what was received last
};

// A connection that stands; -1 if there is none in time.
int Connect(const Address& address) {
  const int fd = Dial(address);
  if (fd < 0) return -1;
  pollfd interest = {fd, POLLOUT, 0};
  int error = 0;
  socklen_t length = sizeof error;
  if (poll(&interest, 1, static_cast<int>(1e3 * kConnectPatienceS)) == 1 &&
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0) {
    return fd;
  }
  close(fd);
  return -1;
}

class Run {
 public:
  Run(const ClientOptions& options, const Load& load, const Prompts& prompts)
      : options_(options), prompts_(prompts), pace_(load) {}

  absl::Status OpenConnections() {
    const absl::StatusOr<Address> address = Resolve(options_.address);
    if (!address.ok()) return address.status();
    for (int i = 0; i < options_.connections; ++i) {
      const int fd = Connect(*address);
      if (fd < 0) {
        return absl::UnavailableError(absl::StrCat("no connection to ", options_.address));
      }
      connections_.push_back(std::make_unique<Connection>(fd, &pace_, [this](Call* c) { End(c); }));
    }
    return absl::OkStatus();
  }

  std::vector<RequestRecord> Execute() {
    return pace_.Execute([this] { Send(); }, [this] { Advance(); });
  }

 private:
  void Send() {
    size_t number;
    RequestRecord* record = pace_.Begin(&number);
    Call& call = calls_.emplace_back();
    call.position = std::prev(calls_.end());
    call.record = record;
    call.request = RequestBody(prompts_.Make(static_cast<int64_t>(number), record->prompt_tokens),
                               record->max_tokens);
    record->sent_s = pace_.Now();
    Connection& connection = *connections_[number % connections_.size()];
    if (!connection.Begin(&call, options_.address, options_.timeout_s)) End(&call);
  }

  // Sends, and waits until something can be received or sent, or a request is due.
  void Advance() {
    std::vector<pollfd> interests;
    for (const auto& connection : connections_) {
      connection->Flush();
      // The kernel looks past a number below zero.
      interests.push_back(
          {connection->is_open() ? connection->fd() : -1, connection->Interest(), 0});
    }
    const timespec limit = pace_.Wait(kLongestWaitS);
    if (ppoll(interests.data(), interests.size(), &limit, nullptr) > 0) {
      for (size_t i = 0; i < interests.size(); ++i) {
        if (interests[i].revents == 0) continue;
        connections_[i]->Advance();
        if (options_.nap_s > 0) pace_.Nap(options_.nap_s);
      }
    }
    if (pace_.Now() >= next_look_s_) EndLateAndLost();
  }

  void EndLateAndLost() {
    next_look_s_ = pace_.Now() + kLongestWaitS;
    for (auto next = calls_.begin(); next != calls_.end();) {
      Call& call = *next++;
      const bool late = pace_.Now() > call.record->sent_s + options_.timeout_s;
      if (!late && call.connection->is_open()) continue;
      if (late) call.grpc_status = absl::StrCat(absl::StatusCode::kDeadlineExceeded);
      call.connection->Drop(&call);
      End(&call);
    }
  }

  void End(Call* call) {
    call->record->end_s = pace_.Now();
    int code = static_cast<int>(absl::StatusCode::kUnavailable);  // it broke
    if (!absl::SimpleAtoi(call->grpc_status, &code) && !call->http_status.empty()) {
      call->record->error = absl::StrCat("no whole answer; HTTP's status is ", call->http_status);
    }
    // The codes of gRPC and Abseil are the same numbers.
    call->record->status = absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
    calls_.erase(call->position);
    pace_.End();
  }

  const ClientOptions& options_;
  const Prompts& prompts_;
  Pace pace_;
  std::vector<std::unique_ptr<Connection>> connections_;
  double next_look_s_ = 0;  // at who is late
  std::list<Call> calls_;
};

}  // namespace

absl::StatusOr<std::vector<RequestRecord>> RunFrameLoad(const ClientOptions& options,
                                                        const Load& load, const Prompts& prompts) {
  Run run(options, load, prompts);
  if (absl::Status status = run.OpenConnections(); !status.ok()) return status;
  return run.Execute();
}

}  // namespace pregate
