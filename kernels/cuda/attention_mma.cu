#include <cassert>

#include "kernels/cuda/attention_mma.h"

namespace pregate::cuda {
namespace {

template <int kChunks>
void LaunchFor(Device& device, const AttentionArgs& args, int64_t lines, bool wide) {
  if (wide) {
    LaunchCacheAttention<MmaEngine<kChunks, 1>>(device, args, lines);
  } else {
    LaunchCacheAttention<MmaEngine<kChunks, 4>>(device, args, lines);
  }
}

}  // namespace

void LaunchMmaAttention(Device& device, const AttentionArgs& args, int64_t lines, bool wide) {
  assert(args.kv.dtype == DType::kF16 && args.head_dim % 16 == 0 && args.head_dim <= 256);
  const auto launch = args.head_dim <= 64    ? LaunchFor<1>
                      : args.head_dim <= 128 ? LaunchFor<2>
                      : args.head_dim <= 192 ? LaunchFor<3>
                                             : LaunchFor<4>;
  launch(device, args, lines, wide);
}

}  // namespace pregate::cuda
