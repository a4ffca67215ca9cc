#include "server/generation/stop_matcher.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace pregate {

StopMatcher::Pattern::Pattern(const std::string& stop) : text(stop), failure(stop.size() + 1) {
  assert(!stop.empty());
  for (size_t k = 1; k < text.size(); ++k) {
    uint32_t border = failure[k];
    while (border > 0 && text[border] != text[k]) border = failure[border];
    failure[k + 1] = border + (text[border] == text[k] ? 1 : 0);
  }
}

bool StopMatcher::Pattern::Advance(char byte) {
  while (state > 0 && text[state] != byte) state = failure[state];
  if (text[state] == byte) ++state;
  return state == text.size();
}

StopMatcher::StopMatcher(const std::vector<std::string>& stops)
    : patterns_(stops.begin(), stops.end()) {}

std::string StopMatcher::Add(absl::string_view piece) {
  if (matched_) return "";
  for (size_t i = 0; i < piece.size() && !matched_; ++i) {
    held_ += piece[i];
    size_t complete = 0;
    for (Pattern& pattern : patterns_) {
      if (pattern.Advance(piece[i])) complete = std::max(complete, pattern.text.size());
    }
    if (complete == 0) continue;
    matched_ = true;
    held_.resize(held_.size() - complete);
  }
  if (matched_) return std::exchange(held_, "");
  const size_t sure = held_.size() - LongestState();
  std::string text = held_.substr(0, sure);
  held_.erase(0, sure);
  return text;
}

std::string StopMatcher::Finish() { return std::exchange(held_, ""); }

size_t StopMatcher::LongestState() const {
  size_t longest = 0;
  for (const Pattern& pattern : patterns_) longest = std::max<size_t>(longest, pattern.state);
  return longest;
}

}  // namespace pregate
