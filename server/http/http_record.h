// What the log and the traces say of a request over HTTP.
#ifndef PREGATE_SERVER_HTTP_HTTP_RECORD_H_
#define PREGATE_SERVER_HTTP_HTTP_RECORD_H_

#include "absl/status/status.h"
#include "server/http/http_message.h"
#include "server/tracing/request_record.h"

namespace pregate {

// Without its answers.
RequestRecord RecordOf(const HttpRequest& request, const absl::Status& status);

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_HTTP_RECORD_H_
