#include "load_tests/loadgen/prompts.h"

#include <cmath>
#include <random>

namespace pregate {
namespace {

// Ids of the text of one stream, from its beginning.
void Append(uint64_t seed, uint64_t stream, uint32_t vocab_size, int64_t count,
            std::vector<uint32_t>* ids) {
  std::seed_seq mix = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                       static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
  std::mt19937 random(mix);
  std::uniform_int_distribution<uint32_t> id(0, vocab_size - 1);
  for (int64_t i = 0; i < count; ++i) ids->push_back(id(random));
}

}  // namespace

std::vector<uint32_t> Prompts::Make(int64_t number, int32_t length) const {
  std::vector<uint32_t> ids;
  ids.reserve(static_cast<size_t>(length));
  const int64_t shared = std::llround(options_.shared_prefix * length);
  Append(options_.seed, 0, options_.vocab_size, shared, &ids);
  Append(options_.seed, static_cast<uint64_t>(number) + 1, options_.vocab_size, length - shared,
         &ids);
  return ids;
}

}  // namespace pregate
