#include "server/grpc/gate.h"

#include <vector>

#include "server/grpc/status.h"

namespace pregate {

absl::Status Gate::Admit(const grpc::CallbackServerContext& context, const char* method) const {
  if (authorizer_ == nullptr) return absl::OkStatus();
  std::vector<absl::string_view> authorization;
  const auto& metadata = context.client_metadata();
  for (auto [it, end] = metadata.equal_range("authorization"); it != end; ++it) {
    authorization.emplace_back(it->second.data(), it->second.size());
  }
  const absl::StatusOr<std::string> name = authorizer_->Check(authorization);
  if (name.ok()) return absl::OkStatus();
  environment_->model->metrics().CountRejection(Rejection::kUnauthenticated);
  RequestLogLine line;
  line.method = method;
  line.status = StatusCodeName(name.status());
  line.peer = context.peer();
  environment_->log->Write(line);
  return name.status();
}

}  // namespace pregate
