#include "server/identity/authorizer.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <array>
#include <cstdlib>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "server/identity/small_file.h"

namespace pregate {
namespace {

constexpr char kFlag[] = "api-key-file";
constexpr size_t kMinTokenBytes = 16;
constexpr size_t kMaxTokenBytes = 4096;
constexpr size_t kMaxNameBytes = 64;
constexpr size_t kMaxTokens = 1024;

using Digest = std::array<unsigned char, 32>;

struct KnownToken {
  std::string name;
  Digest digest;
};
using KnownTokens = std::vector<KnownToken>;

// HMAC-SHA-256 under a key that no other process has: what is compared says nothing about tokens,
// not even to one who can time the comparison.
class TokenHash {
 public:
  TokenHash() {
    if (RAND_bytes(key_.data(), static_cast<int>(key_.size())) != 1) std::abort();
  }
  Digest operator()(absl::string_view token) const {
    Digest digest;
    const auto* bytes = reinterpret_cast<const unsigned char*>(token.data());
    unsigned int size = 0;
    if (HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()), bytes, token.size(),
             digest.data(), &size) == nullptr ||
        size != digest.size()) {
      std::abort();
    }
    return digest;
  }

 private:
  std::array<unsigned char, 32> key_;
};

// b64token of RFC 6750.
bool IsToken(absl::string_view text) {
  const size_t last = text.find_last_not_of('=');
  if (last == absl::string_view::npos) return false;
  for (const char c : text.substr(0, last + 1)) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        !absl::StrContains("-._~+/", absl::string_view(&c, 1))) {
      return false;
    }
  }
  return true;
}

bool IsName(absl::string_view text) {
  if (text.empty() || text.size() > kMaxNameBytes) return false;
  for (const char c : text) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        !absl::StrContains("-._", absl::string_view(&c, 1))) {
      return false;
    }
  }
  return true;
}

// Takes the next line off `text`.
absl::string_view TakeLine(absl::string_view* text) {
  const size_t end = std::min(text->find('\n'), text->size());
  const absl::string_view line = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return absl::StripAsciiWhitespace(line);
}

// The tokens of a file, as hashes. What stands in a line is in no message.
class TokenFileReader {
 public:
  explicit TokenFileReader(const TokenHash& hash) : hash_(hash) {}

  absl::StatusOr<KnownTokens> Read(absl::string_view text) {
    while (!text.empty()) {
      ++line_number_;
      const absl::string_view line = TakeLine(&text);
      if (line.empty() || line.front() == '#') continue;
      if (absl::Status status = ReadLine(line); !status.ok()) return status;
    }
    if (tokens_.empty())
      return absl::InvalidArgumentError(absl::StrCat(kFlag, ": must hold a token; got none"));
    return std::move(tokens_);
  }

 private:
  absl::Status ReadLine(absl::string_view line) {
    const size_t colon = line.find(':');
    std::string name = absl::StrCat("line ", line_number_);
    if (colon != absl::string_view::npos) {
      name = std::string(absl::StripAsciiWhitespace(line.substr(0, colon)));
      if (!IsName(name)) {
        return Wrong(absl::StrCat("name its token with 1 to ", kMaxNameBytes,
                                  " letters, digits, '-', '.', '_'"));
      }
      line = absl::StripAsciiWhitespace(line.substr(colon + 1));
    }
    if (line.size() < kMinTokenBytes || line.size() > kMaxTokenBytes) {
      return Wrong(
          absl::StrCat("have a token of ", kMinTokenBytes, " to ", kMaxTokenBytes, " characters"));
    }
    if (!IsToken(line)) return Wrong("have a token of letters, digits, and '-._~+/', then '='");
    if (tokens_.size() == kMaxTokens) {
      return Wrong(absl::StrCat("be one of at most ", kMaxTokens, " with a token"));
    }
    if (!names_.insert(name).second) return Wrong("have a name that no other line has");
    const Digest digest = hash_(line);
    if (!digests_.insert(digest).second) return Wrong("have a token that no other line has");
    tokens_.push_back({std::move(name), digest});
    return absl::OkStatus();
  }

  absl::Status Wrong(absl::string_view rule) const {
    return absl::InvalidArgumentError(
        absl::StrCat(kFlag, ": line ", line_number_, " must ", rule, "; got another"));
  }

  const TokenHash& hash_;
  int line_number_ = 0;
  std::set<std::string> names_;
  std::set<Digest> digests_;
  KnownTokens tokens_;
};

// "": there is not exactly one, or it is of no size that a token has.
absl::string_view BearerToken(absl::Span<const absl::string_view> authorization) {
  constexpr absl::string_view kScheme = "bearer ";
  if (authorization.size() != 1) return "";
  absl::string_view token = authorization[0];
  if (!absl::StartsWithIgnoreCase(token, kScheme)) return "";
  token.remove_prefix(kScheme.size());
  if (token.size() > 2 * kMaxTokenBytes) return "";
  token = absl::StripAsciiWhitespace(token);
  return token.size() > kMaxTokenBytes ? "" : token;
}

class Everybody : public Authorizer {
 public:
  absl::StatusOr<std::string> Check(absl::Span<const absl::string_view>) const override {
    return "";
  }
  absl::Status Reload() override { return absl::OkStatus(); }
};

class TokenFile : public Authorizer {
 public:
  explicit TokenFile(std::string path) : path_(std::move(path)) {}

  absl::StatusOr<std::string> Check(
      absl::Span<const absl::string_view> authorization) const override {
    const absl::string_view token = BearerToken(authorization);
    if (!token.empty()) {
      const Digest digest = hash_(token);
      const std::shared_ptr<const KnownTokens> known = tokens();
      const KnownToken* found = nullptr;
      for (const KnownToken& candidate : *known) {  // all of them, whichever it is
        if (CRYPTO_memcmp(candidate.digest.data(), digest.data(), digest.size()) == 0) {
          found = &candidate;
        }
      }
      if (found != nullptr) return found->name;
    }
    return absl::UnauthenticatedError(
        "authorization: must be one bearer token that this server knows; got another or none");
  }

  absl::Status Reload() override {
    absl::StatusOr<std::string> text = ReadSmallFile(kFlag, path_);
    if (!text.ok()) return text.status();
    const Digest file = hash_(*text);
    absl::StatusOr<KnownTokens> read = KnownTokens();
    absl::MutexLock lock(&mutex_);
    if (tokens_ == nullptr || file != file_) read = TokenFileReader(hash_).Read(*text);
    OPENSSL_cleanse(text->data(), text->size());
    if (!read.ok() || read->empty()) return read.status();
    reloads_ += tokens_ != nullptr;
    tokens_ = std::make_shared<const KnownTokens>(*std::move(read));
    file_ = file;
    return absl::OkStatus();
  }

  int64_t reloads() const override {
    absl::MutexLock lock(&mutex_);
    return reloads_;
  }

 private:
  std::shared_ptr<const KnownTokens> tokens() const {
    absl::MutexLock lock(&mutex_);
    return tokens_;
  }

  const std::string path_;
  const TokenHash hash_;
  mutable absl::Mutex mutex_;
  std::shared_ptr<const KnownTokens> tokens_ ABSL_GUARDED_BY(mutex_);  // null before the first read
  Digest file_ ABSL_GUARDED_BY(mutex_);                                // they were read from
  int64_t reloads_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Authorizer>> Authorizer::Open(const std::string& path) {
  if (path.empty()) return std::make_unique<Everybody>();
  auto authorizer = std::make_unique<TokenFile>(path);
  if (absl::Status status = authorizer->Reload(); !status.ok()) return status;
  return authorizer;
}

}  // namespace pregate
