// A tokenizer whose tokens are bytes and a few control tokens.
#ifndef PREGATE_TESTS_SERVER_BYTE_TOKENIZER_H_
#define PREGATE_TESTS_SERVER_BYTE_TOKENIZER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/tokenizer.h"
#include "tests/model/random_model.h"

namespace pregate {

// Ids 0...255 are the bytes, 256 is "<|end|>", then come `controls`.
inline std::unique_ptr<Tokenizer> MakeByteTokenizer(const std::vector<std::string>& controls = {}) {
  RandomModelSpec model;
  model.vocab_size = 257;
  TokenizerSpec spec = MakeRandomModel(model)->tokenizer();
  for (const std::string& control : controls) {
    spec.tokens.push_back(control);
    spec.token_types.push_back(TokenizerSpec::kControl);
  }
  return *Tokenizer::Create(std::move(spec));
}

}  // namespace pregate

#endif  // PREGATE_TESTS_SERVER_BYTE_TOKENIZER_H_
