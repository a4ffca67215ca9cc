// Authorizer: who may call, by the bearer tokens of a file.
//
// The file is text, one token a line: `name:token`, or a token alone, which is then named by its
// line ("line 3"). Lines that are empty or begin with '#' are skipped, spaces around a token do not
// count. A token has 16 to 4096 characters, those of RFC 6750: letters, digits, - . _ ~ + / and
// then any number of '='. A name has up to 64 letters, digits, - . _ and each only once, as has a
// token.
#ifndef PREGATE_SERVER_IDENTITY_AUTHORIZER_H_
#define PREGATE_SERVER_IDENTITY_AUTHORIZER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pregate {

// Every front door asks the same one. Keeps no token, only keyed hashes of them. Thread-safe.
class Authorizer {
 public:
  // Reads the tokens of `path`; "": nobody needs one. INVALID_ARGUMENT names the line that is
  // wrong, never what stands in it; FAILED_PRECONDITION: the file cannot be read.
  static absl::StatusOr<std::unique_ptr<Authorizer>> Open(const std::string& path);
  virtual ~Authorizer() = default;

  // `authorization`: every value of the call's header of that name, of which there must be one,
  // "Bearer <token>". The name of the token, "" where nobody needs one; else UNAUTHENTICATED, which
  // says no more than that. Takes as long for one token of the file as for another.
  virtual absl::StatusOr<std::string> Check(
      absl::Span<const absl::string_view> authorization) const = 0;

  // Reads the file again if it has changed; what was read before stays in force when that fails.
  // Calls that have been let in are not asked again.
  virtual absl::Status Reload() = 0;

  // How often a reload has changed what is in force.
  virtual int64_t reloads() const { return 0; }
};

}  // namespace pregate

#endif  // PREGATE_SERVER_IDENTITY_AUTHORIZER_H_
