#include "server/http/request_reader.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/generation/field_error.h"

namespace pregate {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

// What waits for more bytes: a line of a chunk, with its extensions, that does not end.
constexpr size_t kMaxUnread = 2 * kMaxHeadBytes;

absl::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

int CountHeaders(const HttpRequest& request, absl::string_view name) {
  return static_cast<int>(
      std::count_if(request.headers.begin(), request.headers.end(),
                    [name](const auto& header) { return header.first == name; }));
}

}  // namespace

struct RequestReader::Parser : http::request_parser<http::string_body> {};

RequestReader::RequestReader() : parser_(std::make_unique<Parser>()) {
  parser_->header_limit(kMaxHeadBytes);
  parser_->body_limit(static_cast<uint64_t>(kMaxBodyBytes));
}

RequestReader::~RequestReader() = default;

size_t RequestReader::Put(absl::string_view bytes) {
  size_t used = 0;
  while (used < bytes.size() && (state_ == State::kHead || state_ == State::kBody)) {
    boost::system::error_code error;
    used += parser_->put(asio::const_buffer(bytes.data() + used, bytes.size() - used), error);
    const bool needs_more = error == http::error::need_more;
    if (error && !needs_more) {
      if (error == http::error::header_limit) {
        Fail(431,
             FieldError("header", absl::StrCat("be at most ", kMaxHeadBytes, " bytes"), "more"));
      } else if (error == http::error::body_limit) {
        Fail(413, FieldError("body", absl::StrCat("be at most ", kMaxBodyBytes, " bytes"), "more"));
      } else {
        Fail(400, FieldError("request", "be HTTP/1.1", bytes));
      }
    } else if (state_ == State::kHead && parser_->is_header_done()) {
      ReadHead();
      return used;
    } else if (parser_->is_done()) {
      request_.body = std::move(parser_->get().body());
      state_ = State::kDone;
    } else if (needs_more) {
      if (bytes.size() - used > kMaxUnread) {
        Fail(400, FieldError("body", "be in chunks with short extensions", "a long one"));
      }
      return used;
    }
  }
  return used;
}

int64_t RequestReader::body_bytes() const {
  const std::string& body =
      state_ == State::kDone ? request_.body : std::as_const(*parser_).get().body();
  return static_cast<int64_t>(body.size());
}

void RequestReader::ReadHead() {
  const auto& message = parser_->get();
  request_.method = std::string(View(message.method_string()));
  for (const auto& field : message) {
    request_.headers.emplace_back(absl::AsciiStrToLower(View(field.name_string())),
                                  std::string(View(field.value())));
  }
  keep_alive_ = parser_->keep_alive();
  http_1_0_ = message.version() == 10;
  expects_continue_ = absl::EqualsIgnoreCase(request_.Header("expect"), "100-continue");
  ReadTarget(View(message.target()));
  if (const absl::Status status = CheckHead(); !status.ok()) {
    return Fail(HttpStatusOf(status), status);
  }
  state_ = parser_->is_done() ? State::kDone : State::kBody;
}

// "/path?query", or the same behind "http://host".
void RequestReader::ReadTarget(absl::string_view target) {
  if (absl::StartsWithIgnoreCase(target, "http://") ||
      absl::StartsWithIgnoreCase(target, "https://")) {
    target.remove_prefix(target.find("//") + 2);
    const size_t slash = target.find('/');
    target = slash == absl::string_view::npos ? "/" : target.substr(slash);
  }
  const size_t mark = target.find('?');
  request_.path = std::string(target.substr(0, mark));
  if (mark != absl::string_view::npos) request_.query = std::string(target.substr(mark + 1));
}

// What the parser lets through, and two servers behind one another could read differently.
absl::Status RequestReader::CheckHead() const {
  const int hosts = CountHeaders(request_, "host");
  if (hosts > 1 || (hosts == 0 && !http_1_0_)) return FieldError("host", "be given once", hosts);
  if (const int codings = CountHeaders(request_, "transfer-encoding"); codings > 0) {
    const absl::string_view coding = request_.Header("transfer-encoding");
    if (codings > 1 || !absl::EqualsIgnoreCase(coding, "chunked")) {
      return absl::UnimplementedError(
          absl::StrCat("transfer-encoding: must be chunked; got ", Quoted(coding)));
    }
    if (http_1_0_ || CountHeaders(request_, "content-length") > 0) {
      return FieldError("transfer-encoding", "be alone, in HTTP/1.1", "content-length or HTTP/1.0");
    }
  }
  const absl::string_view length = request_.Header("content-length");
  const bool is_number = std::all_of(length.begin(), length.end(), absl::ascii_isdigit);
  if (CountHeaders(request_, "content-length") > 1 || !is_number) {
    return FieldError("content-length", "be one number, given once", length);
  }
  return absl::OkStatus();
}

void RequestReader::Fail(int http_status, const absl::Status& error) {
  state_ = State::kBad;
  keep_alive_ = false;
  http_status_ = http_status;
  error_ = error;
}

}  // namespace pregate
