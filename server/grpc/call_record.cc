#include "server/grpc/call_record.h"

#include <utility>
#include <vector>

namespace pregate {
namespace {

std::vector<absl::string_view> Metadata(const grpc::CallbackServerContext& context,
                                        const char* key) {
  std::vector<absl::string_view> values;
  const auto& metadata = context.client_metadata();
  for (auto [it, end] = metadata.equal_range(key); it != end; ++it) {
    values.emplace_back(it->second.data(), it->second.size());
  }
  return values;
}

}  // namespace

RequestRecord RecordOf(const grpc::CallbackServerContext& context, std::string method,
                       std::string request_id, const absl::Status& status, const Arrival& arrival) {
  RequestRecord record;
  record.request_id = std::move(request_id);
  record.method = std::move(method);
  record.peer = context.peer();
  record.status = status;
  record.arrival = arrival;
  record.trace =
      ReadTraceContext(Metadata(context, kTraceparentHeader), Metadata(context, kTracestateHeader));
  return record;
}

}  // namespace pregate
