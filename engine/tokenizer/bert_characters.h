// What BERT's tokenizers take for a control character, for punctuation and for a mark. Their tables
// are those of Unicode 8 (`tokenizers` still has them), and a vocabulary was made with them:
// characters that came later are letters to them, whatever they are now.
#ifndef PREGATE_ENGINE_TOKENIZER_BERT_CHARACTERS_H_
#define PREGATE_ENGINE_TOKENIZER_BERT_CHARACTERS_H_

namespace pregate {

// A control or format character, one for private use, NUL or U+FFFD; tabs and line breaks are not.
bool IsBertControl(char32_t c);
// Of ASCII everything that is no letter, digit or space.
bool IsBertPunctuation(char32_t c);
// A mark that takes no room, as accents are after decomposition.
bool IsBertMark(char32_t c);
// A character of the blocks of Chinese ideographs.
bool IsBertChinese(char32_t c);

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_BERT_CHARACTERS_H_
