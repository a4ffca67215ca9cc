#include "engine/model/rope_scaling.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>

#include "engine/model/file_error.h"

namespace pregate {
namespace {

// Llama 3.1: long waves are interpolated, short ones kept, those between mixed.
double ScaleLlama3(double freq, const RopeScaling& s) {
  const double wavelength = 2.0 * std::numbers::pi / freq;
  if (wavelength > s.original_context / s.low_freq_factor) return freq / s.factor;
  if (wavelength < s.original_context / s.high_freq_factor) return freq;
  const double smooth = (s.original_context / wavelength - s.low_freq_factor) /
                        (s.high_freq_factor - s.low_freq_factor);
  return (1.0 - smooth) * freq / s.factor + smooth * freq;
}

// The (fractional) pair that makes `rotations` turns within the original context: equation 17 of
// the YaRN paper solved for the pair.
double PairOfRotations(double rotations, double theta, int rotated_dims, const RopeScaling& s) {
  return rotated_dims * std::log(s.original_context / (rotations * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(theta));
}

// YaRN's ramp: 0 for pairs that are kept, 1 for those that are interpolated.
std::vector<double> YarnRamp(double theta, int rotated_dims, const RopeScaling& s) {
  double low = PairOfRotations(s.beta_fast, theta, rotated_dims, s);
  double high = PairOfRotations(s.beta_slow, theta, rotated_dims, s);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rotated_dims - 1.0);
  if (low == high) high += 0.001;  // as the reference implementation does: no division by zero
  std::vector<double> ramp(rotated_dims / 2);
  for (size_t i = 0; i < ramp.size(); ++i) {
    ramp[i] = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
  }
  return ramp;
}

absl::Status CheckScaling(std::string_view field, double theta, const RopeScaling& s) {
  struct Rule {
    bool holds;
    std::string_view text;
    double got;
  };
  const bool llama3 = s.kind == RopeScaling::Kind::kLlama3;
  const bool yarn = s.kind == RopeScaling::Kind::kYarn;
  const Rule rules[] = {
      {theta > 1.0 && theta <= 1e12, "base frequency must be in (1, 1e12]", theta},
      {s.factor > 0.0 && s.factor <= 1e6, "factor must be in (0, 1e6]", s.factor},
      {!(llama3 || yarn) || (s.original_context >= 1.0 && s.original_context <= 1e9),
       "original context must be in [1, 1e9]", s.original_context},
      {!llama3 || (s.low_freq_factor > 0.0 && s.low_freq_factor < s.high_freq_factor &&
                   std::isfinite(s.high_freq_factor)),
       "low_freq_factor must be positive and below high_freq_factor", s.low_freq_factor},
      {!yarn || (s.beta_slow > 0.0 && s.beta_slow <= s.beta_fast && std::isfinite(s.beta_fast)),
       "beta_slow must be positive and at most beta_fast", s.beta_slow},
      {!yarn || (s.magnitude >= 0.0 && s.magnitude <= 1e3), "attention factor must be in [0, 1000]",
       s.magnitude},
  };
  for (const Rule& rule : rules) {
    if (!rule.holds) return Malformed(field, rule.text, absl::StrCat(rule.got));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RopeFrequencies> MakeRopeFrequencies(std::string_view field, double theta,
                                                    int rotated_dims, const RopeScaling& scaling) {
  assert(rotated_dims > 0 && rotated_dims % 2 == 0);
  if (const absl::Status status = CheckScaling(field, theta, scaling); !status.ok()) return status;

  RopeFrequencies result;
  result.theta = theta;
  std::vector<double> ramp;
  if (scaling.kind == RopeScaling::Kind::kYarn) {
    ramp = YarnRamp(theta, rotated_dims, scaling);
    result.magnitude = static_cast<float>(
        scaling.magnitude > 0.0 ? scaling.magnitude
                                : 1.0 + 0.1 * std::log(std::max(scaling.factor, 1.0)));
  }
  for (int i = 0; i < rotated_dims / 2; ++i) {
    double freq = std::pow(theta, -2.0 * i / rotated_dims);
    switch (scaling.kind) {
      case RopeScaling::Kind::kNone:
        break;
      case RopeScaling::Kind::kLinear:
        freq /= scaling.factor;
        break;
      case RopeScaling::Kind::kLlama3:
        freq = ScaleLlama3(freq, scaling);
        break;
      case RopeScaling::Kind::kYarn:
        freq = freq * (1.0 - ramp[i]) + freq / scaling.factor * ramp[i];
        break;
    }
    result.inv_freq.push_back(static_cast<float>(freq));
  }
  return result;
}

}  // namespace pregate
