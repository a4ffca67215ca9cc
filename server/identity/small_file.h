// Files of the operator's that are read whole: tokens, certificates, keys.
#ifndef PREGATE_SERVER_IDENTITY_SMALL_FILE_H_
#define PREGATE_SERVER_IDENTITY_SMALL_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pregate {

inline constexpr size_t kMaxSmallFileBytes = 1 << 20;

// The bytes of `path`. FAILED_PRECONDITION "<flag>: must ...; got <path>" when it is no regular
// file that can be read, or has more than kMaxSmallFileBytes. Never waits for a writer.
absl::StatusOr<std::string> ReadSmallFile(absl::string_view flag, const std::string& path);

// FAILED_PRECONDITION "<flag>: must <rule>; got <path>".
absl::Status FileError(absl::string_view flag, absl::string_view rule, const std::string& path);

// Every user of this machine may read `path`.
bool IsReadableByAll(const std::string& path);

}  // namespace pregate

#endif  // PREGATE_SERVER_IDENTITY_SMALL_FILE_H_
