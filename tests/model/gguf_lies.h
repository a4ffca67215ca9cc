// What a GGUF file says that is not true, and how that is refused.
#ifndef PREGATE_TESTS_MODEL_GGUF_LIES_H_
#define PREGATE_TESTS_MODEL_GGUF_LIES_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/model/gguf_writer.h"

namespace pregate {

struct Lie {
  std::string name;
  std::function<void(GgufWriter&)> tell;
  absl::StatusCode code;
  std::string says;  // part of the message
};

inline void PrintTo(const Lie& lie, std::ostream* out) { *out << lie.name; }
inline std::string LieName(const testing::TestParamInfo<Lie>& info) { return info.param.name; }

inline constexpr absl::StatusCode kMalformed = absl::StatusCode::kInvalidArgument;
inline constexpr absl::StatusCode kNotServed = absl::StatusCode::kUnimplemented;
inline constexpr absl::StatusCode kDoesNotFit = absl::StatusCode::kFailedPrecondition;
inline constexpr uint64_t kMax64 = std::numeric_limits<uint64_t>::max();

// The model in `writer`, once the lie is told, is refused as the lie says, and without taking much
// memory.
void ExpectRefusal(GgufWriter writer, const Lie& lie);

// A size as a zero, as a negative number, as a string and as 2^32 and more.
std::vector<Lie> SizeLies(const std::string& key);

}  // namespace pregate

#endif  // PREGATE_TESTS_MODEL_GGUF_LIES_H_
