// From the hidden states of a generating model to the vector of a text.
#ifndef PREGATE_ENGINE_HIDDEN_POOLING_H_
#define PREGATE_ENGINE_HIDDEN_POOLING_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"

namespace pregate {

// Collects the rows of one text, which may come in several steps.
class HiddenPooling {
 public:
  explicit HiddenPooling(Pooling how) : how_(how) {}

  // The last row alone is computed for its hidden state; other ways to pool want all rows.
  bool wants_all_rows() const { return how_ != Pooling::kLast; }

  // The normed hidden state of the text's row `position`. Rows come in order; one that has been
  // here already, computed again after a preemption, is passed over.
  void Add(int32_t position, const float* row, int64_t size);

  // The vector, once all rows are in.
  std::vector<float> Take();

 private:
  const Pooling how_;
  int32_t rows_ = 0;
  std::vector<double> sum_;  // or the one row
};

// A text as a request that generates nothing, and what its end means for the text.
GenerationRequest RequestOf(EncodingRequest text, const HiddenPooling& pooling);
EncodingOutput OutputOf(const GenerationOutput& end, HiddenPooling* pooling);

}  // namespace pregate

#endif  // PREGATE_ENGINE_HIDDEN_POOLING_H_
