#ifndef PREGATE_ENGINE_MODEL_ENCODER_CONFIG_H_
#define PREGATE_ENGINE_MODEL_ENCODER_CONFIG_H_

#include <cstdint>

#include "engine/model/pooling.h"

namespace pregate {

// An encoder of the BERT kind (1810.04805; RoBERTa 1907.11692, XLM-R 1911.02116, MiniLM
// 2002.10957): each row sees all of its text, positions are learned, norms stand behind what they
// norm and have a mean, every matrix has a bias. What a decoder has as well stands in ModelConfig.
struct EncoderConfig {
  bool present = false;  // the model is an encoder

  int32_t num_positions = 0;   // rows of the position table
  int32_t first_position = 0;  // a text's first row of it: RoBERTa's stand behind the padding's
  int32_t num_token_types = 0;
  float layer_norm_eps = 1e-12f;

  Pooling pooling = Pooling::kMean;  // never kNone
  int32_t max_length = 0;            // tokens of a text that the model was made for; 0: not said
  bool scores = false;               // the first row becomes the score of a pair: a cross-encoder
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_ENCODER_CONFIG_H_
