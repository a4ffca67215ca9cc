#include "server/chat_template/text_operations.h"

#include <string.h>

#include <algorithm>
#include <utility>

#include "server/chat_template/unicode_text.h"

namespace pregate {

size_t FindText(absl::string_view text, absl::string_view wanted, size_t from) {
  if (from > text.size()) return absl::string_view::npos;
  // std::string::find takes the product of both lengths.
  const void* found = memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size());
  return found == nullptr ? absl::string_view::npos
                          : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

size_t FindLastText(absl::string_view text, absl::string_view wanted) {
  const std::string backwards(text.rbegin(), text.rend());
  const size_t found = FindText(backwards, std::string(wanted.rbegin(), wanted.rend()));
  return found == absl::string_view::npos ? found : text.size() - found - wanted.size();
}

Value RewriteText(Evaluation* evaluation, const TaggedText& text,
                  std::string (*rewrite)(absl::string_view)) {
  // Case is looked up character by character.
  if (!evaluation->Spend(static_cast<int64_t>(text.bytes().size() / 4))) return Value();
  return evaluation->MakeText(rewrite(text.bytes()), text.has_client_bytes());
}

Value StripText(Evaluation* evaluation, const TaggedText& text, const Value* chars, bool left,
                bool right) {
  if (chars != nullptr && chars->is_none()) chars = nullptr;
  if (chars != nullptr && chars->text() == nullptr) {
    return evaluation->Fail("the characters to strip must be a string");
  }
  absl::string_view set;
  if (chars != nullptr) {
    set = chars->text()->bytes();
    evaluation->Spend(static_cast<int64_t>(set.size() / 8 * (text.bytes().size() / 8)));
    if (!evaluation->ok()) return Value();
  }
  const ByteRange range = StripRange(text.bytes(), chars == nullptr ? nullptr : &set, left, right);
  return evaluation->MakeText(text.Slice(range.begin, range.end));
}

Value ReplaceText(Evaluation* evaluation, const TaggedText& text, const TaggedText& old_text,
                  const TaggedText& new_text, int64_t limit) {
  const std::string& bytes = text.bytes();
  const std::string& wanted = old_text.bytes();
  TaggedText result;
  size_t at = 0;
  for (int64_t count = 0; count != limit; ++count) {
    // An empty string stands before every character and at the end.
    size_t found = wanted.empty() && count > 0
                       ? (at < bytes.size() ? at + DecodeCodePoint(bytes, at).bytes : bytes.npos)
                       : FindText(bytes, wanted, at);
    if (found == bytes.npos) break;
    result.Append(text.Slice(at, found));
    result.Append(new_text);
    at = found + wanted.size();
    if (!evaluation->Spend(1) || result.bytes().size() > kMaxRenderedBytes) break;
  }
  result.Append(text.Slice(at, bytes.size()));
  return evaluation->MakeText(std::move(result));
}

std::vector<TaggedText> SplitWords(Evaluation* evaluation, const TaggedText& text, int64_t limit) {
  std::vector<TaggedText> words;
  const std::string& bytes = text.bytes();
  size_t at = 0;
  while (evaluation->Spend(1)) {
    at += StripRange(absl::string_view(bytes).substr(at), nullptr, true, false).begin;
    if (at >= bytes.size()) break;
    if (static_cast<int64_t>(words.size()) == limit) {
      words.push_back(text.Slice(at, bytes.size()));
      break;
    }
    size_t end = at;
    while (end < bytes.size()) {
      const CodePoint point = DecodeCodePoint(bytes, end);
      if (IsSpace(point.value)) break;
      end += point.bytes;
    }
    words.push_back(text.Slice(at, end));
    at = end;
  }
  return words;
}

std::vector<TaggedText> SplitText(Evaluation* evaluation, const TaggedText& text,
                                  const std::string& separator, int64_t limit, bool from_right) {
  std::vector<TaggedText> parts;
  const std::string& bytes = text.bytes();
  if (separator.empty()) {
    evaluation->Fail("an empty separator");
    return parts;
  }
  // From the right is from the left in the strings read backwards.
  const auto turned = [&](const std::string& s) {
    return from_right ? std::string(s.rbegin(), s.rend()) : s;
  };
  const std::string searched = turned(bytes);
  const std::string wanted = turned(separator);
  std::vector<size_t> cuts;
  for (size_t at = 0; static_cast<int64_t>(cuts.size()) != limit && evaluation->Spend(1);) {
    const size_t found = FindText(searched, wanted, at);
    if (found == absl::string_view::npos) break;
    cuts.push_back(from_right ? bytes.size() - found - wanted.size() : found);
    at = found + wanted.size();
  }
  if (from_right) std::reverse(cuts.begin(), cuts.end());
  size_t at = 0;
  for (size_t cut : cuts) {
    parts.push_back(text.Slice(at, cut));
    at = cut + separator.size();
  }
  parts.push_back(text.Slice(at, bytes.size()));
  return parts;
}

std::vector<TaggedText> SplitLines(Evaluation* evaluation, const TaggedText& text, bool keep_ends) {
  const auto breaks = [](uint32_t value) {
    return (value >= 0x0A && value <= 0x0D) || (value >= 0x1C && value <= 0x1E) || value == 0x85 ||
           value == 0x2028 || value == 0x2029;
  };
  std::vector<TaggedText> lines;
  const absl::string_view bytes = text.bytes();
  size_t begin = 0;
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint point = DecodeCodePoint(bytes, at);
    if (!breaks(point.value)) {
      at += point.bytes;
      continue;
    }
    const size_t end = at + (bytes.substr(at, 2) == "\r\n" ? 2 : point.bytes);
    lines.push_back(text.Slice(begin, keep_ends ? end : at));
    at = end;
    begin = end;
    if (!evaluation->Spend(1)) return lines;
  }
  if (begin < bytes.size()) lines.push_back(text.Slice(begin, bytes.size()));
  return lines;
}

}  // namespace pregate
