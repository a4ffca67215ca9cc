// Prompt lookup: what may follow a text, guessed from the text itself. Answers that quote their
// prompt, edit code or repeat themselves say again what stands before. (Saxena, "Prompt Lookup
// Decoding", 2023: n-gram drafts for speculative decoding, Leviathan et al., arXiv 2211.17192.)
#ifndef PREGATE_ENGINE_PLAN_PROMPT_LOOKUP_H_
#define PREGATE_ENGINE_PLAN_PROMPT_LOOKUP_H_

#include <cstdint>
#include <vector>

namespace pregate {

// Tokens before the end that are compared, at most; a longer match says little more.
inline constexpr int32_t kLongestMatch = 4;

// Positions before the end that are looked at: a look takes microseconds, however long the text is.
inline constexpr int32_t kLookupWindow = 16384;

// A place where the last `length` tokens of a text stand already.
struct LookupMatch {
  int32_t length = 0;  // in [1, kLongestMatch]; 0: there is none
  int32_t next = 0;    // position of the token after them
};

// The longest match, the newest of those.
LookupMatch FindMatch(const std::vector<int32_t>& tokens);

// The `count` tokens from position `next` of the text on. What a match finds may run into the end
// and past it: there the text goes on with what has been copied, as a text that repeats itself
// does.
std::vector<int32_t> CopyFrom(const std::vector<int32_t>& tokens, int32_t next, int32_t count);

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_PROMPT_LOOKUP_H_
