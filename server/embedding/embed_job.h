// From texts to their vectors.
#ifndef PREGATE_SERVER_EMBEDDING_EMBED_JOB_H_
#define PREGATE_SERVER_EMBEDDING_EMBED_JOB_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/embedding/encoding_job.h"
#include "server/embedding/input_reader.h"
#include "server/generation/served_model.h"

namespace pregate {

// What a text is to its reader: some models were trained with other first words for each.
enum class InputKind : uint8_t { kPlain, kQuery, kPassage };

// As it came: nothing is checked yet.
struct EmbedAsk {
  EncodingCaller caller;
  std::string field = "inputs";  // as the client calls them
  std::vector<TextOrIds> inputs;
  InputKind kind = InputKind::kPlain;  // of the texts
  Pooling pooling = Pooling::kNone;    // as the model file says
  bool normalize = false;              // to a length of 1
  std::optional<int64_t> dimensions;   // the first so many of a vector; then normalised if wanted
  bool truncate = false;               // too long a text loses its end
};

// INVALID_ARGUMENT, NOT_FOUND (another model's name), UNIMPLEMENTED (the model does not embed).
absl::StatusOr<EncodingJob> PlanEmbedding(const ServedModel& model, EmbedAsk ask);

}  // namespace pregate

#endif  // PREGATE_SERVER_EMBEDDING_EMBED_JOB_H_
