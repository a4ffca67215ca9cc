// The steps that tokenizer.json describes around its model: normalizer, pre_tokenizer, decoder,
// post_processor (https://huggingface.co/docs/tokenizers/components).
#ifndef PREGATE_ENGINE_TOKENIZER_TOKENIZER_JSON_PIPELINE_H_
#define PREGATE_ENGINE_TOKENIZER_TOKENIZER_JSON_PIPELINE_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "engine/tokenizer.h"
#include "engine/tokenizer/json_fields.h"

namespace pregate {

// The special tokens that TemplateProcessing puts around one text; "" for none.
struct SequenceTemplate {
  std::string before, after;
  std::vector<std::string> between;  // the texts of a pair; empty: there are no pairs
};

// The steps of a component: the members of its "Sequence", or the component alone; none for null.
std::vector<const Json*> StepsOf(const Json& component, const char* members);
absl::Status UnsupportedComponent(std::string_view where, std::string_view what);

// Each fills its part of `spec`. FAILED_PRECONDITION names the component or option that is not
// supported. ParsePreTokenizer also decides spec->model and must come before ParseNormalizer.
absl::Status ParsePreTokenizer(const Json& root, TokenizerSpec* spec);
absl::Status ParseNormalizer(const Json& root, TokenizerSpec* spec);
absl::Status CheckDecoder(const Json& root, const TokenizerSpec& spec);
absl::Status ParsePostProcessor(const Json& root, SequenceTemplate* out);

// The same for all of a WordPiece or Unigram file but its added tokens and its post_processor:
// model, normalizer, pre_tokenizer, decoder.
absl::Status ParseWordPiece(const Json& root, TokenizerSpec* spec);
absl::Status ParseUnigram(const Json& root, TokenizerSpec* spec);

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_TOKENIZER_JSON_PIPELINE_H_
