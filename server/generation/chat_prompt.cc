#include "server/generation/chat_prompt.h"

#include <string>

namespace pregate {
namespace {

// [begin, end) bytes; empty: there is none.
struct Span {
  size_t begin = 0;
  size_t end = 0;
};

// From the start of the first control token that `text` spells to the end of the last one.
Span ControlSpan(const Tokenizer& tokenizer, const std::string& text) {
  const TokenizerSpec& spec = tokenizer.spec();
  Span span;
  const std::vector<int32_t> ids =
      tokenizer.Encode(text, {.add_special = false, .parse_special = true});
  for (const int32_t id : ids) {
    if (spec.token_types.empty() || spec.token_types[id] != TokenizerSpec::kControl) continue;
    const std::string& spelling = spec.tokens[id];
    // No earlier control token hides an occurrence of the first one, no later one of the last.
    if (span.end == 0) span.begin = text.find(spelling);
    span.end = text.rfind(spelling) + spelling.size();
  }
  return span;
}

class SegmentEncoder {
 public:
  explicit SegmentEncoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void AddPlain(const std::string& text) { plain_ += text; }

  void AddTrusted(const std::string& text) {
    const Span control = ControlSpan(tokenizer_, text);
    plain_ += text.substr(0, control.begin);
    if (control.end > 0) {
      FlushPlain();
      Encode(text.substr(control.begin, control.end - control.begin), /*parse_special=*/true);
    }
    plain_ += text.substr(control.end);
  }

  std::vector<int32_t> Finish() {
    FlushPlain();
    return std::move(ids_);
  }

 private:
  void FlushPlain() {
    if (!plain_.empty()) Encode(plain_, /*parse_special=*/false);
    plain_.clear();
  }

  void Encode(const std::string& text, bool parse_special) {
    const std::vector<int32_t> ids =
        tokenizer_.Encode(text, {.add_special = false, .parse_special = parse_special});
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }

  const Tokenizer& tokenizer_;
  std::string plain_;
  std::vector<int32_t> ids_;
};

}  // namespace

std::vector<int32_t> EncodeSegments(const Tokenizer& tokenizer,
                                    absl::Span<const RenderedSegment> segments,
                                    bool parse_special) {
  if (parse_special) {
    std::string text;
    for (const RenderedSegment& segment : segments) text += segment.text;
    return tokenizer.Encode(text, {.add_special = false, .parse_special = true});
  }
  SegmentEncoder encoder(tokenizer);
  for (const RenderedSegment& segment : segments) {
    segment.from_client ? encoder.AddPlain(segment.text) : encoder.AddTrusted(segment.text);
  }
  return encoder.Finish();
}

}  // namespace pregate
