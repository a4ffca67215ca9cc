// SentencePiece's precompiled normalizer (Kudo and Richardson 2018): which characters become which.
#ifndef PREGATE_ENGINE_TOKENIZER_CHARSMAP_H_
#define PREGATE_ENGINE_TOKENIZER_CHARSMAP_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace pregate {

// A trie as a double array (the layout of Darts-clone) whose values are places in a list of
// strings, each ended by a NUL. It trusts nothing: every step stays within the array.
class Charsmap {
 public:
  // FAILED_PRECONDITION when the blob is not of this format. "": rewrites nothing.
  static absl::StatusOr<Charsmap> Parse(std::string_view blob);

  // `text` (valid UTF-8) with the longest match at each character replaced; time O(n).
  std::string Normalize(std::string_view text) const;

 private:
  struct Match {
    size_t bytes = 0;  // 0: none
    std::string_view replacement;
  };
  Match LongestAt(std::string_view text) const;

  std::vector<uint32_t> units_;
  std::string strings_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_CHARSMAP_H_
