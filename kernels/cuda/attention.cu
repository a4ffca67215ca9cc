// Attention over a cache: which kernels serve a batch, and the merge of spans.
#include <algorithm>
#include <cassert>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/entries.h"
#include "kernels/kv_layout.h"

namespace pregate::cuda {
namespace {

// Lines of a sequence whose spans always get blocks of their own.
constexpr int kFewLines = 16;
// The same where walking blocks would not even fill the device.
constexpr int kMaxFewLines = 256;
constexpr int kWideLines = 64;
// What spans may leave for the merge. Where they would leave more there are blocks enough without.
constexpr int64_t kMaxPartialBytes = int64_t{256} << 20;
constexpr unsigned kMergeThreads = 64;

// A block merges one line's spans.
__global__ void __launch_bounds__(kMergeThreads)
    MergeSpansKernel(const __grid_constant__ AttentionArgs args) {
  Lines lines;
  if (!FindLines(args, static_cast<int>(blockIdx.x), 1, &lines)) return;
  const int first = lines.begin / kSpan, last = (lines.end - 1) / kSpan;
  const float* const partials = PartialOf(args, lines, 0, first);
  const int stride = args.head_dim + 2;
  for (auto i = static_cast<int>(threadIdx.x); i < args.head_dim; i += kMergeThreads) {
    SpanSums total = {kEmptyMax, 0};
    float mix = 0;
    const float* partial = partials;
    for (int span = first; span <= last; ++span, partial += stride) {
      const MergeFactors factors = MergeSums({partial[0], partial[1]}, &total);
      mix = MergeMix(partial[2 + i], factors, mix);
    }
    lines.Out(args, 0)[i] = Finish(mix, total.sum);
  }
}

// One engine serves all rows of a kind of cache: bits of two would differ.
void RunEngine(Device& device, const AttentionArgs& args, int64_t lines, bool wide) {
  const bool halves = args.kv.dtype == DType::kF16 || args.kv.dtype == DType::kBF16 ||
                      args.kv.dtype == DType::kF8E4M3;
  if (halves && args.head_dim % 16 == 0) {
    LaunchMmaAttention(device, args, lines, wide);
  } else {
    LaunchSimtAttention(device, args, lines);
  }
}

// The sequences of few lines: `lines` at most.
void RunFewLines(Device& device, AttentionArgs args, int lines) {
  args.serves_few = true;
  args.partials = nullptr;
  args.partial_lines = lines;
  const int64_t partials = int64_t{args.batch.num_sequences} * args.kv_heads * lines * args.spans;
  const int64_t bytes = partials * (args.head_dim + 2) * int64_t{sizeof(float)};
  if (args.spans > 1 && bytes <= kMaxPartialBytes) {
    args.partials = static_cast<float*>(AsGpu(device).Scratch(static_cast<size_t>(bytes)));
  }
  RunEngine(device, args, lines, lines > std::max(kFewLines, args.group));
  if (args.partials == nullptr) return;
  Launch(device, MergeSpansKernel,
         {{static_cast<unsigned>(lines), static_cast<unsigned>(args.kv_heads),
           static_cast<unsigned>(args.batch.num_sequences)},
          {kMergeThreads}},
         args);
}

[[maybe_unused]] bool Aligned(const void* data, const KvLayerView& kv) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && kv.block_stride % 16 == 0;
}

}  // namespace

void Attention(Device& device, ConstTensor q, KvLayerView kv, const AttentionBatch& batch,
               const AttentionParams& params, Tensor out) {
  assert(params.num_heads % kv.kv_heads == 0);
  assert(kv.head_dim % 8 == 0 && kv.head_dim <= 256);
  // What is read 16 bytes at a time.
  assert(kv.block_tokens % 8 != 0 || Aligned(kv.keys, kv));
  assert(kv.dtype == DType::kQ8_0 || Aligned(kv.values, kv));
  AttentionArgs args = {};
  args.q = q;
  args.out = out;
  args.kv_heads = kv.kv_heads;
  args.group = params.num_heads / kv.kv_heads;
  args.head_dim = kv.head_dim;
  args.kv = kv;
  args.part_bytes = KvPartBytes(kv);
  args.row_bytes = RowBytes(kv.dtype, kv.head_dim);
  args.batch = batch;
  SetScores(params.scale, params.soft_cap, &args);
  args.window = params.window;
  args.spans = static_cast<int>(Blocks(batch.max_context, kSpan));

  // Spans of few lines go to blocks of their own, or there would be too few blocks; more lines
  // make blocks by themselves. What a sequence has is known on the device, so kernels for both are
  // launched, unless the bounds tell that there is only one kind.
  const int64_t lines = int64_t{batch.max_rows} * args.group;
  args.few_lines = std::max(kFewLines, args.group);
  if (args.spans > 1 && batch.num_sequences * args.kv_heads * int64_t{Blocks(lines, kWideLines)} <=
                            AsGpu(device).multiprocessors()) {
    args.few_lines =
        std::max(args.few_lines, static_cast<int>(std::min<int64_t>(lines, kMaxFewLines)));
  }
  const bool all_few = lines <= args.few_lines;
  if (!all_few && batch.num_sequences == 1) args.few_lines = 0;
  if (args.few_lines > 0) {
    RunFewLines(device, args, static_cast<int>(std::min<int64_t>(lines, args.few_lines)));
  }
  if (!all_few) RunEngine(device, args, lines, /*wide=*/true);
}

}  // namespace pregate::cuda
