// The tokenizer that GGUF metadata describes.
#ifndef PREGATE_ENGINE_MODEL_GGUF_TOKENIZER_H_
#define PREGATE_ENGINE_MODEL_GGUF_TOKENIZER_H_

#include "absl/status/statusor.h"
#include "engine/model/gguf.h"
#include "engine/tokenizer.h"

namespace pregate {

// Reads `tokenizer.ggml.*`. Keys that a file leaves out get the values that its tokenizer model
// implies. INVALID_ARGUMENT for a wrong type or value, UNIMPLEMENTED for a tokenizer model that is
// not served.
absl::StatusOr<TokenizerSpec> ReadGgufTokenizer(const GgufFile& file);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_GGUF_TOKENIZER_H_
