// Philox4x32-10, the counter-based random numbers of Salmon et al., "Parallel Random Numbers: As
// Easy as 1, 2, 3" (SC 2011): a pure function of key and counter, so that a draw needs no state.
#ifndef PREGATE_ENGINE_MODEL_PHILOX_H_
#define PREGATE_ENGINE_MODEL_PHILOX_H_

#include <array>
#include <cstdint>

namespace pregate {

constexpr std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                             std::array<uint32_t, 2> key) {
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t left = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t right = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {
        static_cast<uint32_t>(right >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(right),
        static_cast<uint32_t>(left >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(left)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

// Uniform in [0, 1), a multiple of 2^-53: the number that `seed` gives at `position`.
constexpr double UniformAt(uint64_t seed, uint64_t position) {
  const std::array<uint32_t, 4> bits =
      Philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return static_cast<double>(((uint64_t{bits[1]} << 32) | bits[0]) >> 11) * 0x1p-53;
}

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_PHILOX_H_
