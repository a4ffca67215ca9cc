#include "kernels/quant/activations.h"

#include "kernels/work_list.h"

namespace pregate {
namespace {

// Groups that a thread takes at a time: some microseconds.
constexpr int64_t kGrainGroups = 128;

}  // namespace

void RunQuantize(Device& device, GroupQuantizer q16, GroupQuantizer q8,
                 absl::Span<const Quantization> matrices) {
  // Work is shared out as it lies in `out`, so that no two threads write to one cache line.
  WorkList work;
  for (const auto& [x, out] : matrices) {
    assert(x.dtype == DType::kF32 && out.rows == x.rows && out.cols == x.cols);
    const ActivationMatrix quantized(out);
    work.Add(quantized.blocks().count() * quantized.depth(), quantized.blocks().height());
  }
  work.Run(device, kGrainGroups, [&](int64_t matrix, int64_t begin, int64_t end) {
    const auto& [x, out] = matrices[static_cast<size_t>(matrix)];
    const GroupQuantizer quantize = out.dtype == DType::kQ16Act ? q16 : q8;
    const ActivationMatrix quantized(out);
    const RowBlocks& blocks = quantized.blocks();
    for (int64_t i = begin; i < end; ++i) {
      const int64_t block = i / quantized.depth();
      const int64_t row = blocks.Begin(block);
      const int64_t group = i % quantized.depth();
      quantize(x.Row<float>(row) + group * 32, x.stride, blocks.Height(block),
               &quantized.Group(row, group));
    }
  });
}

}  // namespace pregate
