#include "kernels/quant/activations.h"

namespace pregate {
namespace {

// Groups that a thread takes at a time: some microseconds.
constexpr int64_t kGrainGroups = 128;

}  // namespace

void RunQuantize(Device& device, GroupQuantizer q16, GroupQuantizer q8, ConstTensor x, Tensor out) {
  assert(x.dtype == DType::kF32 && out.rows == x.rows && out.cols == x.cols);
  const GroupQuantizer quantize = out.dtype == DType::kQ16Act ? q16 : q8;
  const ActivationMatrix quantized(out);
  const RowBlocks& blocks = quantized.blocks();
  const int64_t depth = quantized.depth();
  // Work is shared out as it lies in `out`, so that no two threads write to one cache line.
  const int64_t grain = std::max<int64_t>(1, kGrainGroups / blocks.height());
  device.ParallelFor(blocks.count() * depth, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = blocks.Begin(i / depth);
      const int64_t group = i % depth;
      quantize(x.Row<float>(row) + group * 32, x.stride, blocks.Height(i / depth),
               &quantized.Group(row, group));
    }
  });
}

}  // namespace pregate
