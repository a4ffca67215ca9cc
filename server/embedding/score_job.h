// How well documents answer a query.
#ifndef PREGATE_SERVER_EMBEDDING_SCORE_JOB_H_
#define PREGATE_SERVER_EMBEDDING_SCORE_JOB_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/embedding/encoding_job.h"
#include "server/generation/served_model.h"

namespace pregate {

// Pieces that a document, and all documents of a call, may be read in.
inline constexpr int64_t kMaxPiecesOfDocument = 64;
inline constexpr int64_t kMaxPieces = 4096;

// As it came: nothing is checked yet.
struct ScoreAsk {
  EncodingCaller caller;
  std::string query;
  std::vector<std::string> documents;
  // Of a cross-encoder's score the logistic function, in (0, 1); else the score itself.
  bool sigmoid = true;
  // Documents are read as far as they fit, and no further.
  bool truncate = false;
};

// A cross-encoder reads query and document together and gives the score. With a model that only
// embeds, the score is the cosine of the vectors of query and document, each with the prefix of its
// kind. A document that does not fit is read in pieces that overlap by a quarter, and has the score
// of the best of them (MaxP: Dai and Callan, 1905.09217). A query may take half of what fits.
//
// INVALID_ARGUMENT, NOT_FOUND (another model's name), UNIMPLEMENTED (the model does neither).
absl::StatusOr<EncodingJob> PlanScoring(const ServedModel& model, ScoreAsk ask);

}  // namespace pregate

#endif  // PREGATE_SERVER_EMBEDDING_SCORE_JOB_H_
