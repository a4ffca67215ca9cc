// StopMatcher: ends a growing text at the first stop string.
#ifndef PREGATE_SERVER_GENERATION_STOP_MATCHER_H_
#define PREGATE_SERVER_GENERATION_STOP_MATCHER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace pregate {

// The stop string that is complete first ends the text (of two that are complete at once, the
// longer). How the text was cut into pieces makes no difference. Time is O(1) per byte and stop
// string, amortised, however often the text almost matches.
class StopMatcher {
 public:
  // None of `stops` is empty.
  explicit StopMatcher(const std::vector<std::string>& stops);

  // Takes the next piece of the text; returns what is sure to stay: all but the longest end that
  // may still become a stop string. Nothing after a match.
  std::string Add(absl::string_view piece);

  // What is still held back, at the end of a text that no stop string has ended.
  std::string Finish();

  bool matched() const { return matched_; }

 private:
  // The automaton of Knuth, Morris and Pratt (1977) for one stop string.
  struct Pattern {
    std::string text;
    // [text.size() + 1] failure[k]: the longest proper end of text[0, k) that also begins it.
    std::vector<uint32_t> failure;
    uint32_t state = 0;  // bytes of `text` that the seen text ends with

    explicit Pattern(const std::string& stop);
    // True when the stop string is complete.
    bool Advance(char byte);
  };

  // Bytes at the end of the text that may still become a stop string.
  size_t LongestState() const;

  std::vector<Pattern> patterns_;
  std::string held_;
  bool matched_ = false;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_STOP_MATCHER_H_
