// The words of HTTP/1.1. Private to server/http.
#ifndef PREGATE_SERVER_HTTP_HTTP_TEXT_H_
#define PREGATE_SERVER_HTTP_HTTP_TEXT_H_

#include <string>

#include "absl/strings/string_view.h"
#include "server/http/http_message.h"

namespace pregate {

// All that stands before a body. `framing`: the header that says where the body ends, with its line
// end, or "". `persistence`: "close", "keep-alive", or "" for what the version says.
std::string ResponseHead(const HttpResponse& response, absl::string_view framing,
                         absl::string_view persistence, absl::string_view request_id);

// A piece of a body in Transfer-Encoding: chunked; nothing for an empty one, which would be the
// last.
std::string Chunk(absl::string_view piece);

// A client's label, made fit for a header and a log; one of ours where there is none.
std::string RequestLabel(absl::string_view given);

// "application/json" of "Application/JSON; charset=utf-8".
std::string MediaType(absl::string_view header);

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_HTTP_TEXT_H_
