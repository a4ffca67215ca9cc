// Frequencies of rotary position embedding and the rules that stretch them over longer contexts.
#ifndef PREGATE_ENGINE_MODEL_ROPE_SCALING_H_
#define PREGATE_ENGINE_MODEL_ROPE_SCALING_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace pregate {

struct RopeScaling {
  enum class Kind : uint8_t {
    kNone,
    kLinear,  // every frequency divided by `factor` (position interpolation, 2306.15595)
    kLlama3,  // by wavelength, smoothly, as in Llama 3.1
    kYarn,    // by rotations within the original context (2309.00071)
  };
  Kind kind = Kind::kNone;
  double factor = 1.0;
  double original_context = 0.0;  // tokens the model was first trained on; kLlama3 and kYarn
  double low_freq_factor = 1.0;   // kLlama3
  double high_freq_factor = 4.0;  // kLlama3
  double beta_fast = 32.0;        // kYarn
  double beta_slow = 1.0;         // kYarn
  bool truncate = true;           // kYarn: bounds of the ramp are whole pairs
  double magnitude = 0.0;         // kYarn; 0: 1 + 0.1 ln(factor), as the paper says
};

struct RopeFrequencies {
  std::vector<float> inv_freq;  // [rotated_dims / 2]
  float magnitude = 1.0f;       // multiplies both sine and cosine
  double theta = 1e4;           // the base before any rule
};

// theta^(-2i / rotated_dims), scaled. INVALID_ARGUMENT, its text starting with `field`, when theta
// or a number of `scaling` is not usable. `rotated_dims` must be even and positive.
absl::StatusOr<RopeFrequencies> MakeRopeFrequencies(std::string_view field, double theta,
                                                    int rotated_dims, const RopeScaling& scaling);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_ROPE_SCALING_H_
