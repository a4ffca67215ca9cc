// Joins strings whatever absl::string_view is: Debian's absl has its own type beside the
// standard's.
#ifndef PREGATE_ENGINE_TOKENIZER_STRINGS_H_
#define PREGATE_ENGINE_TOKENIZER_STRINGS_H_

#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace pregate {

inline absl::string_view ForAbsl(std::string_view text) { return {text.data(), text.size()}; }
template <typename T>
const T& ForAbsl(const T& value) {
  return value;
}

// absl::StrCat that takes std::string_view too.
template <typename... T>
std::string Cat(const T&... parts) {
  return absl::StrCat(ForAbsl(parts)...);
}

inline std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  size_t start = 0;
  for (size_t at; (at = text.find(from, start)) != std::string_view::npos;
       start = at + from.size()) {
    out.append(text, start, at - start).append(to);
  }
  return out.append(text, start, text.size() - start);
}

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_STRINGS_H_
