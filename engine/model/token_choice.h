// Choosing a token from one row of logits: pure functions, no sequence in sight.
#ifndef PREGATE_ENGINE_MODEL_TOKEN_CHOICE_H_
#define PREGATE_ENGINE_MODEL_TOKEN_CHOICE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/model/sampling_params.h"

namespace pregate {

// Makes logits safe to compare: NaN becomes -infinity, +infinity the largest float.
void SanitizeLogits(absl::Span<float> logits);

// The id of the largest logit, the lowest id among equals. NaN is never chosen while there is a
// number, and +infinity counts as the largest float.
int32_t ArgMax(absl::Span<const float> logits);

// The k largest logits, likeliest first, lower ids first among equals; all of them when there are
// fewer. `logprob` holds the logit. Logits are sanitised. O(vocab + k log k) on average.
std::vector<TokenLogprob> TopLogits(absl::Span<const float> logits, int k);

// log sum exp(logits): what turns a logit into a log-probability. -infinity when all are. Logits
// are sanitised.
double LogSumExp(absl::Span<const float> logits);

// Draws from the softmax of logits / temperature cut down by top_k, typical_p, top_p and min_p, in
// this order, each on what the one before has left, renormalised: to the token what TokenDraw of
// kernels/kernels.h says, which knows no typical_p. `uniform` in [0, 1) decides. NaN and infinity
// are as for ArgMax. Logits get overwritten. temperature > 0.
int32_t DrawToken(absl::Span<float> logits, const SamplingParams& params, double uniform);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_TOKEN_CHOICE_H_
