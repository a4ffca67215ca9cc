#include "server/http/http_text.h"

#include <atomic>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pregate {
namespace {

constexpr size_t kMaxLabel = 128;

const char* ReasonOf(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Unknown";
  }
}

}  // namespace

std::string ResponseHead(const HttpResponse& response, absl::string_view framing,
                         absl::string_view persistence, absl::string_view request_id) {
  std::string head = absl::StrCat(
      "HTTP/1.1 ", response.status, " ", ReasonOf(response.status),
      "\r\ndate: ", absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone()),
      "\r\n", framing);
  const auto add = [&head](absl::string_view name, absl::string_view value) {
    if (!value.empty()) absl::StrAppend(&head, name, ": ", value, "\r\n");
  };
  if (response.status != 204) add("content-type", response.content_type);
  for (const auto& [name, value] : response.headers) add(name, value);
  add("x-request-id", request_id);
  add("connection", persistence);
  return head + "\r\n";
}

std::string Chunk(absl::string_view piece) {
  return piece.empty() ? "" : absl::StrCat(absl::Hex(piece.size()), "\r\n", piece, "\r\n");
}

std::string RequestLabel(absl::string_view given) {
  if (given.empty()) {
    static std::atomic<uint64_t> count = 0;
    static const uint64_t start = static_cast<uint64_t>(absl::ToUnixMicros(absl::Now()));
    return absl::StrFormat("req-%x-%x", start, ++count);
  }
  std::string label(given.substr(0, kMaxLabel));
  for (char& c : label) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) c = '?';
  }
  return label;
}

std::string MediaType(absl::string_view header) {
  return absl::AsciiStrToLower(absl::StripAsciiWhitespace(header.substr(0, header.find(';'))));
}

}  // namespace pregate
