// SipHash-2-4: a keyed hash that cannot be steered without the key.
#ifndef PREGATE_SERVER_GENERATION_SIP_HASH_H_
#define PREGATE_SERVER_GENERATION_SIP_HASH_H_

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace pregate {

using SipKey = std::array<uint64_t, 2>;

// Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012).
uint64_t SipHash(const SipKey& key, absl::string_view bytes);

// A key that no other process has.
SipKey RandomSipKey();

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_SIP_HASH_H_
