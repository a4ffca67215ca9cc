// A tokenizer.json of any bytes, or a vocab.txt (what does not begin with "{"), with its companions
// behind NULs: a typed error, or a tokenizer that gives ids of its vocabulary for any text.
#include <cstdlib>
#include <utility>

#include "engine/tokenizer.h"
#include "tests/fuzz/fuzz_target.h"

namespace pregate {

std::vector<std::string> FuzzSeeds() {
  const std::string byte_level =
      R"({"added_tokens":[{"id":6,"content":"<|im_end|>","special":true},)"
      R"({"id":8,"content":"<mask>","special":false,"lstrip":true,"rstrip":true}],)"
      R"("normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[)"
      R"({"type":"Digits","individual_digits":true},{"type":"Split","pattern":{"Regex":)"
      R"("(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+"},)"
      R"("behavior":"Isolated","invert":false},)"
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]},)"
      R"("decoder":{"type":"ByteLevel"},"model":{"type":"BPE","dropout":null,"unk_token":null,)"
      R"("fuse_unk":false,"byte_fallback":false,"ignore_merges":true,)"
      R"("vocab":{"a":0,"b":1,"Ġ":2,"ab":3,"Ġab":4,"Ċ":5},)"
      R"("merges":["a b",["Ġ","ab"]]}})";
  const std::string characters =
      R"({"added_tokens":[{"id":0,"content":"<unk>","special":true},)"
      R"({"id":1,"content":"<s>","special":true,"normalized":false}],)"
      R"("normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},)"
      R"({"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"pre_tokenizer":null,)"
      R"("post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>",)"
      R"("type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"<s>":)"
      R"({"id":"<s>","ids":[1],"tokens":["<s>"]}}},"decoder":{"type":"Sequence","decoders":[)"
      R"({"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},)"
      R"({"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},)"
      R"("model":{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,)"
      R"("vocab":{"<unk>":0,"<s>":1,"<0x41>":2,"▁":3,"a":4,"▁a":5,"aa":6},)"
      R"("merges":["▁ a","a a"]}})";
  const std::string words =
      R"({"added_tokens":[{"id":0,"content":"[UNK]","special":true},{"id":1,"content":"[CLS]",)"
      R"("special":true}],"normalizer":{"type":"BertNormalizer","clean_text":true,)"
      R"("handle_chinese_chars":true,"strip_accents":null,"lowercase":true},"pre_tokenizer":)"
      R"({"type":"BertPreTokenizer"},"post_processor":{"type":"BertProcessing","sep":["[CLS]",1],)"
      R"("cls":["[CLS]",1]},"decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":)"
      R"({"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##",)"
      R"("max_input_chars_per_word":100,"vocab":{"[UNK]":0,"[CLS]":1,"a":2,"##b":3,"ab":4}}})";
  // The charsmap: a unit without children, and one string.
  const std::string unigram =
      R"({"added_tokens":[{"id":0,"content":"<unk>","special":true}],"normalizer":{"type":)"
      R"("Sequence","normalizers":[{"type":"Precompiled","precompiled_charsmap":"BAAAAAAAAAAA"},)"
      R"({"type":"Strip","strip_left":false,"strip_right":true},{"type":"Replace","pattern":)"
      R"({"Regex":" {2,}"},"content":"▁"}]},"pre_tokenizer":{"type":"Sequence","pretokenizers":[)"
      R"({"type":"WhitespaceSplit"},{"type":"Metaspace","replacement":"▁","prepend_scheme":)"
      R"("always","split":true}]},"post_processor":{"type":"TemplateProcessing","single":)"
      R"([{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},)"
      R"({"SpecialToken":{"id":"<unk>","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],)"
      R"("special_tokens":{}},"decoder":{"type":"Metaspace"},"model":{"type":"Unigram","unk_id":0,)"
      R"("vocab":[["<unk>",0.0],["▁",-1.5],["a",-2],["▁ab",-3.25]],"byte_fallback":false}})";
  const std::string nul(1, '\0');
  return {byte_level + nul + R"({"bos_token":{"content":"<|im_end|>"},"add_bos_token":true})" +
              nul + R"({"eos_token_id":[6,8]})",
          characters + nul + R"({"eos_token":"<s>","add_eos_token":false})" + nul,
          characters,
          words,
          unigram,
          "[UNK]\n[CLS]\n<end>\nab\n##b\n" + nul + R"({"sep_token":"<end>"})"};
}

}  // namespace pregate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pregate;  // NOLINT: the whole body speaks of it
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::string_view texts[3];
  for (std::string_view& text : texts) {
    text = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(std::min(rest.size(), text.size() + 1));
  }
  std::string json(texts[0]);
  if (!texts[0].starts_with('{')) {
    absl::StatusOr<std::string> made = TokenizerJsonOfVocabulary(texts[0], texts[1]);
    ExpectTyped(made.status());
    if (!made.ok()) return 0;
    json = *std::move(made);
  }
  auto spec = ParseTokenizerJson(json, texts[1], texts[2]);
  ExpectTyped(spec.status());
  if (!spec.ok()) return 0;
  const auto tokenizer = Tokenizer::Create(*std::move(spec));
  ExpectTyped(tokenizer.status());
  if (!tokenizer.ok()) return 0;
  for (const std::string_view text :
       {std::string_view("  ab a<mask>b\n<|im_end|>A 12's \xC3\xA9\xFF"),
        texts[0].substr(0, 512)}) {
    for (const bool parse_special : {false, true}) {
      const std::vector<int32_t> ids =
          (*tokenizer)->Encode(text, {.add_special = true, .parse_special = parse_special});
      for (const int32_t id : ids) {
        if (id < 0 || id >= (*tokenizer)->vocab_size()) std::abort();
      }
      (*tokenizer)->Decode(ids, parse_special);
      if ((*tokenizer)->makes_pairs()) (*tokenizer)->EncodePair(text, text, parse_special);
    }
  }
  return 0;
}
