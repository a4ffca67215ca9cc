// SentencePrompts: what a model for embeddings wants to read in front of a text.
#ifndef PREGATE_SERVER_GENERATION_SENTENCE_PROMPTS_H_
#define PREGATE_SERVER_GENERATION_SENTENCE_PROMPTS_H_

#include <string>

#include "absl/status/statusor.h"

namespace pregate {

struct SentencePrompts {
  std::string query;    // "query: "
  std::string passage;  // "passage: "
  std::string plain;    // of texts that are neither
};

// From config_sentence_transformers.json in the folder at `model_path`: its prompts named "query",
// "passage" (or "document"), and the one that `default_prompt_name` names. All empty where there is
// no such folder or file. FAILED_PRECONDITION when the file is not what it should be.
absl::StatusOr<SentencePrompts> ReadSentencePrompts(const std::string& model_path);

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_SENTENCE_PROMPTS_H_
