#include "engine/plan/prompt_lookup.h"

#include <algorithm>
#include <cassert>

namespace pregate {

LookupMatch FindMatch(const std::vector<int32_t>& tokens) {
  LookupMatch best;
  const int32_t size = static_cast<int32_t>(tokens.size());
  const int32_t oldest = std::max(size - kLookupWindow, 0);
  for (int32_t end = size - 2; end >= oldest && best.length < kLongestMatch; --end) {
    int32_t length = 0;
    while (length < kLongestMatch && length <= end &&
           tokens[end - length] == tokens[size - 1 - length]) {
      ++length;
    }
    if (length > best.length) best = {length, end + 1};
  }
  return best;
}

std::vector<int32_t> CopyFrom(const std::vector<int32_t>& tokens, int32_t next, int32_t count) {
  const int32_t size = static_cast<int32_t>(tokens.size());
  assert(next >= 0 && next < size);
  std::vector<int32_t> copy;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t from = next + i;
    copy.push_back(from < size ? tokens[from] : copy[from - size]);
  }
  return copy;
}

}  // namespace pregate
