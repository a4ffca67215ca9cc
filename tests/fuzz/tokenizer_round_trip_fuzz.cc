// Text of any bytes through tokenizers of every kind: the bytes come back, cut anywhere the text
// has the same ids, and ids give the same text one at a time as all at once.
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "engine/tokenizer/utf8.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/tokenizer/cases.h"

namespace pregate {
namespace {

// By the first byte of the input. None of them normalises: that would change bytes.
const std::vector<GoldenCase>& Tokenizers() {
  static const auto* const all = [] {
    auto* made = new std::vector<GoldenCase>();
    for (const char* name : {"pre-gpt-2", "pre-smollm", "pre-llama-bpe", "pre-tekken", "pre-gpt-4o",
                             "pre-deepseek-v3", "llama2", "llama2-metaspace", "llama2-scores"}) {
      auto one = MakeGoldenCase(name);
      if (!one.ok()) std::abort();
      made->push_back(*std::move(one));
    }
    return made;
  }();
  return *all;
}

void Expect(bool kept, const char* promise) {
  if (kept) return;
  std::fprintf(stderr, "broken: %s\n", promise);
  std::abort();
}

void CheckBytesComeBack(const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<int32_t> ids = tokenizer.Encode(text, {.add_special = false});
  std::string bytes;
  for (const int32_t id : ids) {
    Expect(id >= 0 && id < tokenizer.vocab_size(), "ids are of the vocabulary");
    const uint8_t type = tokenizer.spec().token_types[id];
    Expect(type != TokenizerSpec::kControl, "plain text holds no control token");
    bytes += tokenizer.TokenBytes(id);
  }
  // What does not come back: white space beside a token that swallows it, and SentencePiece's
  // visible space, which is a space from then on.
  for (const char* lossy : {"<mask>", "\u2581"}) {
    if (text.find(lossy) != std::string_view::npos) return;
  }
  const bool prefixed = tokenizer.spec().add_space_prefix && bytes.starts_with(' ');
  if (prefixed && bytes.size() == text.size() + 1) bytes.erase(0, 1);
  Expect(bytes == text, "the bytes come back");
}

void CheckAnyCut(const Tokenizer& tokenizer, std::string_view text, size_t cut) {
  cut %= text.size() + 1;
  const Tokenizer::TextPart parts[] = {{text.substr(0, cut)}, {text.substr(cut)}};
  Expect(tokenizer.EncodeParts(parts, true) == tokenizer.Encode(text, {}),
         "a text is the same in parts");
}

void CheckOneAtATime(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  for (const bool show_special : {false, true}) {
    IncrementalDetokenizer detokenizer(&tokenizer, show_special);
    std::string text;
    for (const int32_t id : ids) {
      const std::string delta = detokenizer.Add(id);
      Expect(ValidUtf8Prefix(delta) == delta.size(), "no delta holds half a character");
      text += delta;
    }
    text += detokenizer.Finish();
    Expect(text == tokenizer.Decode(ids, show_special), "one at a time is all at once");
  }
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  std::vector<std::string> seeds;
  for (size_t i = 0; i < Tokenizers().size(); ++i) {
    for (const char* text :
         {"The quick brown\n\n  fox's 12345 jumps. <|im_start|>user<mask> ",
          "naïve 日本語 한국어 שלום 👩‍💻🇩🇪 e\u0301\u0323 "
          "\u3000\u2028\t\r\n "
          "x",
          "\xE2\x82\xF0\x9F\x98 \xC0\xAF\xED\xA0\x80 <s></s><unk> ▁▁ <0x41>",
          "                a                         \n\n\n\n"}) {
      seeds.push_back(std::string(1, static_cast<char>(i)) + text);
    }
  }
  return seeds;
}

}  // namespace pregate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pregate;  // NOLINT: the whole body speaks of it
  if (size == 0) return 0;
  const std::vector<GoldenCase>& tokenizers = Tokenizers();
  const Tokenizer& tokenizer = *tokenizers[data[0] % tokenizers.size()].tokenizer;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  CheckBytesComeBack(tokenizer, text);
  CheckAnyCut(tokenizer, text, data[0] + text.size() / 2);
  CheckOneAtATime(tokenizer, tokenizer.Encode(text, {.parse_special = true}));
  // The input as ids.
  std::vector<int32_t> ids;
  for (size_t i = 1; i + 1 < size; i += 2) {
    ids.push_back((data[i] << 8 | data[i + 1]) % tokenizer.vocab_size());
  }
  CheckOneAtATime(tokenizer, ids);
  return 0;
}
