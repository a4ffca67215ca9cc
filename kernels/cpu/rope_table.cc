#include "kernels/cpu/rope_table.h"

#include "kernels/cpu/work_split.h"
#include "kernels/reference/reference.h"

namespace pregate {

void RopeTable(Device& device, const int32_t* positions, const float* inv_freq, float magnitude,
               Tensor cos_sin) {
  // A sine costs about as much as moving this many bytes.
  constexpr int64_t kBytesPerElement = 512;
  ForEachRows(device, cos_sin.rows, cos_sin.cols * kBytesPerElement,
              [&](int64_t begin, int64_t end) {
                Tensor part = cos_sin;
                part.data = cos_sin.Row<float>(begin);
                part.rows = end - begin;
                reference::RopeTable(device, positions + begin, inv_freq, magnitude, part);
              });
}

}  // namespace pregate
