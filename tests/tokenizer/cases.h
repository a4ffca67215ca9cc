// The tokenizers that are compared with the libraries, by the names of make_goldens.py.
#ifndef PREGATE_TESTS_TOKENIZER_CASES_H_
#define PREGATE_TESTS_TOKENIZER_CASES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer.h"

namespace pregate {

struct GoldenCase {
  std::unique_ptr<Tokenizer> tokenizer;
  Tokenizer::EncodeOptions options;
  // The library has no answer for a line that is not UTF-8, or that holds NUL.
  bool utf8_only = false;
  bool no_nul = false;
  // Lines without an answer are marked by the ids of an empty line, which no other line has.
  bool marked = false;
};

// Every name, in the order of the script.
const std::vector<std::string>& GoldenCaseNames();

// NOT_FOUND when the case needs a sample model that is not in the cache.
absl::StatusOr<GoldenCase> MakeGoldenCase(std::string_view name);

// A file of tests/tokenizer/, whole. Aborts when it is missing.
std::string ReadTestFile(const std::string& name);

// The lines of corpus.bin: any bytes, line breaks too.
std::vector<std::string> CorpusLines();

}  // namespace pregate

#endif  // PREGATE_TESTS_TOKENIZER_CASES_H_
