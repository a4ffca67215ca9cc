// Certificates made for a test.
#ifndef PREGATE_TESTS_SERVER_CERTIFICATES_H_
#define PREGATE_TESTS_SERVER_CERTIFICATES_H_

#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pregate {

struct TestCertificate {
  std::string certificate;  // PEM
  std::string key;          // PEM
};

// A certificate for `name` (also its DNS name) and 127.0.0.1, signed by `issuer`; null: by itself,
// as an authority.
TestCertificate MakeCertificate(const std::string& name, const TestCertificate* issuer = nullptr,
                                absl::Time not_after = absl::Now() + absl::Hours(24));

// The same key under a password.
std::string WithPassword(const std::string& key, const std::string& password);

}  // namespace pregate

#endif  // PREGATE_TESTS_SERVER_CERTIFICATES_H_
