#include "server/grpc/gate.h"

#include <vector>

#include "server/grpc/call_record.h"

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
  environment_->log->WriteUntraced(RecordOf(context, method, "", name.status(), Arrival()));
  return name.status();
}

}  // namespace pregate
