#include <cassert>

#include "kernels/cuda/attention_simt.h"

namespace pregate::cuda {
namespace {

template <class Elements>
void LaunchFor(Device& device, const AttentionArgs& args, int64_t lines) {
  using Source = CacheSource<Elements>;
  if (args.head_dim <= 64) {
    LaunchCacheAttention<SimtEngine<Source, 64>>(device, args, lines);
  } else if (args.head_dim <= 128) {
    LaunchCacheAttention<SimtEngine<Source, 128>>(device, args, lines);
  } else {
    LaunchCacheAttention<SimtEngine<Source, 256>>(device, args, lines);
  }
}

}  // namespace

void LaunchSimtAttention(Device& device, const AttentionArgs& args, int64_t lines) {
  if (args.kv.dtype == DType::kF32) {
    LaunchFor<FloatsInCache>(device, args, lines);
  } else if (args.kv.dtype == DType::kF16) {
    LaunchFor<SixteensInCache<Half>>(device, args, lines);
  } else if (args.kv.dtype == DType::kBF16) {
    LaunchFor<SixteensInCache<BFloat16>>(device, args, lines);
  } else if (args.kv.dtype == DType::kF8E4M3) {
    LaunchFor<E4M3InCache>(device, args, lines);
  } else {
    assert(args.kv.dtype == DType::kQ8_0);
    LaunchFor<BytesInCache>(device, args, lines);
  }
}

}  // namespace pregate::cuda
