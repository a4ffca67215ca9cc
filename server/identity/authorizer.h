// Authorizer: who may call, by the bearer tokens of a file.
#ifndef PREGATE_SERVER_IDENTITY_AUTHORIZER_H_
#define PREGATE_SERVER_IDENTITY_AUTHORIZER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pregate {

// Every front door asks the same one. Thread-safe.
class Authorizer {
 public:
  // Reads the tokens of `path`; "": nobody needs one. INVALID_ARGUMENT names the line that is
  // wrong, never what stands in it.
  static absl::StatusOr<std::unique_ptr<Authorizer>> Open(const std::string& path);
  virtual ~Authorizer() = default;

  // `authorization`: every value of the call's header of that name. The name of the token, "" where
  // nobody needs one; else UNAUTHENTICATED, which says no more than that.
  virtual absl::StatusOr<std::string> Check(
      absl::Span<const absl::string_view> authorization) const = 0;

  // Reads the file again if it has changed; what was read before stays in force when that fails.
  virtual absl::Status Reload() = 0;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_IDENTITY_AUTHORIZER_H_
