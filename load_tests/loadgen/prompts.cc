#include "load_tests/loadgen/prompts.h"

#include <cmath>
#include <random>

namespace pregate {

// Ids of the text of one stream, from its beginning.
void Prompts::Append(uint64_t stream, int64_t count, std::vector<uint32_t>* ids) const {
  const uint64_t seed = options_.seed;
  std::seed_seq mix = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                       static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
  std::mt19937 random(mix);
  const std::vector<uint32_t>& text = options_.text;
  if (text.empty()) {
    std::uniform_int_distribution<uint32_t> id(0, options_.vocab_size - 1);
    for (int64_t i = 0; i < count; ++i) ids->push_back(id(random));
    return;
  }
  size_t next = std::uniform_int_distribution<size_t>(0, text.size() - 1)(random);
  for (int64_t i = 0; i < count; ++i, next = (next + 1) % text.size()) ids->push_back(text[next]);
}

std::vector<uint32_t> Prompts::Make(int64_t number, int32_t length) const {
  std::vector<uint32_t> ids;
  ids.reserve(static_cast<size_t>(length));
  const int64_t shared = std::llround(options_.shared_prefix * length);
  Append(0, shared, &ids);
  Append(static_cast<uint64_t>(number) + 1, length - shared, &ids);
  return ids;
}

}  // namespace pregate
