#include "engine/tokenizer/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "engine/tokenizer/utf8.h"

namespace pregate {
namespace {

constexpr auto kForm = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
constexpr utf8proc_ssize_t kMaxDecomposition = 16;  // code points of one character; Unicode has 4

int CombiningClass(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

void AppendDecomposed(char32_t code_point, std::vector<utf8proc_int32_t>* out) {
  utf8proc_int32_t parts[kMaxDecomposition];
  const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point),
                                                         parts, kMaxDecomposition, kForm, nullptr);
  if (count < 0 || count > kMaxDecomposition) {  // not assigned by this library's Unicode
    out->push_back(static_cast<utf8proc_int32_t>(code_point));
  } else {
    out->insert(out->end(), parts, parts + count);
  }
}

// The canonical order of the marks behind each base character. The library's own goes by exchanging
// neighbours, which on a long run of marks takes the square of its length.
void OrderMarks(std::vector<utf8proc_int32_t>* points) {
  const auto is_mark = [](utf8proc_int32_t p) { return CombiningClass(p) != 0; };
  for (auto begin = points->begin(); begin != points->end();) {
    begin = std::find_if(begin, points->end(), is_mark);
    const auto end = std::find_if_not(begin, points->end(), is_mark);
    if (end - begin > 1) {
      std::stable_sort(begin, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
        return CombiningClass(a) < CombiningClass(b);
      });
    }
    begin = end;
  }
}

}  // namespace

std::string NfcNormalize(std::string_view text) {
  // No character below U+0300 (lead byte 0xCC) composes with another below it.
  const bool composed =
      std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0xCC; });
  if (composed) return std::string(text);
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  while (!text.empty()) {
    const auto [code_point, bytes] = DecodeUtf8(text);
    AppendDecomposed(code_point, &points);
    text.remove_prefix(bytes);
  }
  OrderMarks(&points);
  const utf8proc_ssize_t size =
      utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()), kForm);
  std::string normalized;
  for (utf8proc_ssize_t i = 0; i < size; ++i) {
    AppendUtf8(static_cast<char32_t>(points[i]), &normalized);
  }
  return normalized;
}

}  // namespace pregate
