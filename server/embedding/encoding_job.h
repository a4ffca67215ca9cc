// EncodingJob: what one call for vectors or scores asks of the engine, and what its answer is.
#ifndef PREGATE_SERVER_EMBEDDING_ENCODING_JOB_H_
#define PREGATE_SERVER_EMBEDDING_ENCODING_JOB_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/engine.h"

namespace pregate {

// Of one call: counted before anything else is done with them.
inline constexpr int64_t kMaxInputs = 2048;
inline constexpr int64_t kMaxInputBytes = 8 << 20;  // all texts together
inline constexpr int64_t kMaxInputIds = 2 << 20;    // all lists of ids together

// Who asks, whichever front door it came through.
struct EncodingCaller {
  std::string model;       // empty: the one served
  std::string request_id;  // a label
  std::string tenant;
  int32_t priority = 0;
  absl::Time deadline = absl::InfiniteFuture();
};

struct EncodingResult {
  std::vector<std::vector<float>> vectors;  // [inputs][dimensions], of an embedding
  std::vector<float> scores;                // [documents], of a scoring
  Pooling pooling = Pooling::kNone;         // that the vectors were made with
  int64_t tokens = 0;                       // that the engine has read
};

struct EncodingJob {
  const char* operation = "embeddings";  // as OpenTelemetry names it, where it has a name
  std::vector<EncodingRequest> requests = {};
  int32_t inputs = 0;  // of the client: a long document is several requests
  int64_t tokens = 0;
  // Makes the answer of what the engine gave, [requests] in their order.
  std::function<EncodingResult(std::vector<std::vector<float>>)> finish = {};
};

}  // namespace pregate

#endif  // PREGATE_SERVER_EMBEDDING_ENCODING_JOB_H_
