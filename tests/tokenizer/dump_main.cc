// tokenizer_dump CASE: the ids of every line of the corpus, for `make_goldens.py check`.

#include <cstdio>

#include "tests/tokenizer/cases.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tokenizer_dump CASE   (from the project's root)\n");
    return 2;
  }
  const auto test_case = pregate::MakeGoldenCase(argv[1]);
  if (!test_case.ok()) {
    std::fprintf(stderr, "%s\n", test_case.status().ToString().c_str());
    return 1;
  }
  for (const std::string& line : pregate::CorpusLines()) {
    for (const int32_t id : test_case->tokenizer->Encode(line, test_case->options)) {
      std::printf("%d ", id);
    }
    std::printf("\n");
  }
  return 0;
}
