#include <cassert>

#include "kernels/cuda/attention_mma.h"
#include "kernels/cuda/weight_types.h"

namespace pregate::cuda {
namespace {

template <int kChunks, DType kType>
void LaunchFor(Device& device, const AttentionArgs& args, int64_t lines, bool wide) {
  if (wide) {
    LaunchCacheAttention<MmaEngine<kChunks, 1, kType>>(device, args, lines);
  } else {
    LaunchCacheAttention<MmaEngine<kChunks, 4, kType>>(device, args, lines);
  }
}

}  // namespace

void LaunchMmaAttention(Device& device, const AttentionArgs& args, int64_t lines, bool wide) {
  assert(args.head_dim % 16 == 0 && args.head_dim <= 256);
  CallForTypeAmong<DType::kF16, DType::kBF16, DType::kF8E4M3>(args.kv.dtype, [&]<DType kType>() {
    const auto launch = args.head_dim <= 64    ? LaunchFor<1, kType>
                        : args.head_dim <= 128 ? LaunchFor<2, kType>
                        : args.head_dim <= 192 ? LaunchFor<3, kType>
                                               : LaunchFor<4, kType>;
    launch(device, args, lines, wide);
  });
}

}  // namespace pregate::cuda
