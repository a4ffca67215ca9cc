#include "server/http/http_record.h"

#include <vector>

#include "absl/strings/str_cat.h"

namespace pregate {

RequestRecord RecordOf(const HttpRequest& request, const absl::Status& status) {
  RequestRecord record;
  record.request_id = request.request_id;
  record.method = absl::StrCat(request.method, " ", request.path);
  record.peer = request.peer;
  record.status = status;
  record.http_status = HttpStatusOf(status);
  record.arrival = request.arrival;
  std::vector<absl::string_view> parents, states;
  for (const auto& [name, value] : request.headers) {
    if (name == kTraceparentHeader) parents.push_back(value);
    if (name == kTracestateHeader) states.push_back(value);
  }
  record.trace = ReadTraceContext(parents, states);
  return record;
}

}  // namespace pregate
