#ifndef PREGATE_ENGINE_MODEL_POOLING_H_
#define PREGATE_ENGINE_MODEL_POOLING_H_

#include <cstdint>

namespace pregate {

// How the rows of a text become its one vector.
enum class Pooling : uint8_t {
  kNone,  // as the model file says
  kCls,   // the first row
  kMean,  // the mean of all rows
  kLast,  // the last row
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_POOLING_H_
