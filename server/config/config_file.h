// The YAML file of `--config`: a flat map from flag names to values.
#ifndef PREGATE_SERVER_CONFIG_CONFIG_FILE_H_
#define PREGATE_SERVER_CONFIG_CONFIG_FILE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/config/flag.h"

namespace pregate {

inline constexpr size_t kMaxConfigFileBytes = 1 << 20;

// Values by flag name. Keys are written with dashes or underscores; each must name one of `flags`
// and stand only once; values are scalars. INVALID_ARGUMENT says what is wrong, and where.
absl::StatusOr<std::map<std::string, std::string>> ParseConfigYaml(absl::string_view text,
                                                                   const std::vector<Flag>& flags);

// The same from a file of at most kMaxConfigFileBytes.
absl::StatusOr<std::map<std::string, std::string>> ReadConfigFile(const std::string& path,
                                                                  const std::vector<Flag>& flags);

}  // namespace pregate

#endif  // PREGATE_SERVER_CONFIG_CONFIG_FILE_H_
