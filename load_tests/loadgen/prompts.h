// Prompts: token ids of a wanted length, random or pieces of a text, the same for the same seed.
#ifndef PREGATE_LOAD_TESTS_LOADGEN_PROMPTS_H_
#define PREGATE_LOAD_TESTS_LOADGEN_PROMPTS_H_

#include <cstdint>
#include <utility>
#include <vector>

namespace pregate {

struct PromptOptions {
  uint32_t vocab_size = 1;
  uint64_t seed = 1;
  // Each prompt begins with this share of its length, [0, 1], of one text that all have in common:
  // what a prefix cache can find. 0 has nothing in common, so that no cache helps.
  double shared_prefix = 0.0;
  // Prompts are pieces of this, from random places; empty: they are random ids.
  std::vector<uint32_t> text = {};
};

class Prompts {
 public:
  explicit Prompts(PromptOptions options) : options_(std::move(options)) {}

  // The prompt of request `number`.
  std::vector<uint32_t> Make(int64_t number, int32_t length) const;

 private:
  void Append(uint64_t stream, int64_t count, std::vector<uint32_t>* ids) const;

  PromptOptions options_;
};

}  // namespace pregate

#endif  // PREGATE_LOAD_TESTS_LOADGEN_PROMPTS_H_
