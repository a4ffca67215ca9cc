#include "server/commands/inspect.h"

#include <cstdio>
#include <string>

#include "engine/model/inspect.h"

namespace pregate {

absl::Status Inspect(const InspectConfig& config) {
  const absl::StatusOr<std::string> description = DescribeModel(config.model);
  if (description.ok()) std::fputs(description->c_str(), stdout);
  return description.status();
}

}  // namespace pregate
