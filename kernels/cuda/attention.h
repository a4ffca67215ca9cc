// Attention on a GPU: what its kernels share.
//
// Query heads that share a key-value head travel together as lines, line = row * group + head of
// the group, so that keys and values are read once for all of them. The order of arithmetic is
// fixed by positions alone, which makes a row's bits independent of its batch, its chunk and the
// path that it takes: history is cut at multiples of kTile into tiles (one step of the online
// softmax) and at multiples of kSpan into spans. Each span starts from nothing; a line's result is
// the merge of its spans, first to last. A tile or span that a line does not see leaves it as it
// was, so that lines may travel together. Whether one block walks over all spans, or each span has
// a block of its own and another kernel merges what they leave, changes nothing.
// Online softmax: Milakov and Gimelshein, 2018; merging of spans: Dao et al., "Flash-Decoding".
//
// How a tile is computed is the business of an "engine" (attention_simt.h, attention_mma.cu).
#ifndef PREGATE_KERNELS_CUDA_ATTENTION_H_
#define PREGATE_KERNELS_CUDA_ATTENTION_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/gpu.h"
#include "kernels/kernels.h"

namespace pregate::cuda {

inline constexpr int kTile = 64;
inline constexpr int kSpan = 512;
inline constexpr int kAttentionThreads = 128;
inline constexpr int kAttentionWarps = kAttentionThreads / kWarp;
// The maximum of what has seen nothing: finite, so that differences are never NaN.
inline constexpr float kEmptyMax = -1e30f;
inline constexpr float kLog2E = 1.4426950408889634f;

struct AttentionArgs {
  ConstTensor q;  // [R, kv_heads * group * head_dim]
  Tensor out;     // the same
  int kv_heads;
  int group;  // query heads of a key-value head
  int head_dim;

  // Where keys and values lie: in a cache, or, where there is none, in matrices like q.
  KvLayerView kv;
  int64_t part_bytes;  // of one head in a block, see kv_layout.h
  int64_t row_bytes;   // of one value
  AttentionBatch batch;
  ConstTensor k, v;

  // A product q.k becomes the score q.k * scale, or cap * tanh(q.k * scale) where there is a cap.
  // Scores are kept times log2(e), so that powers of two serve.
  float scale;
  float cap;
  int window;

  // A sequence with at most so many lines is one of few lines, which a launch serves, or serves the
  // others.
  int few_lines;
  bool serves_few;
  // Where a block leaves its span, see PartialOf; null: it walks over all spans and writes `out`.
  float* partials;
  int partial_lines;  // of each sequence and key-value head
  int spans;          // of the longest history
};

// Sets scale and cap.
inline void SetScores(float scale, float soft_cap, AttentionArgs* args) {
  args->scale = soft_cap > 0 ? scale / soft_cap : scale * kLog2E;
  args->cap = soft_cap > 0 ? soft_cap * kLog2E : 0;
}

#define PREGATE_DEVICE __device__ __forceinline__

PREGATE_DEVICE float Score(float product, float scale, float cap) {
  const float score = __fmul_rn(product, scale);
  return cap > 0 ? __fmul_rn(cap, tanhf(score)) : score;
}

// Some lines of one sequence and one key-value head.
struct Lines {
  int kv_head;
  int first, count;   // lines, counted from the sequence's first row
  int64_t first_row;  // of the sequence, in the batch
  int rows;           // of the sequence, its last
  int context;
  int group;
  int window;
  bool causal;            // a row sees no further than itself
  const int32_t* blocks;  // of the sequence in the cache
  int begin, end;         // positions that some line sees

  PREGATE_DEVICE int64_t Row(int line) const { return first_row + (first + line) / group; }
  PREGATE_DEVICE int Head(int line) const { return kv_head * group + (first + line) % group; }
  // The positions that a line sees: none where there is no such line.
  PREGATE_DEVICE int SeenEnd(int line) const {
    if (line >= count) return 0;
    return causal ? context - rows + (first + line) / group + 1 : context;
  }
  PREGATE_DEVICE int SeenBegin(int line) const {
    const int end_of_line = SeenEnd(line);
    return window > 0 && end_of_line > window ? end_of_line - window : 0;
  }
  PREGATE_DEVICE const float* Query(const AttentionArgs& args, int line) const {
    return args.q.Row<float>(Row(line)) + Head(line) * args.head_dim;
  }
  PREGATE_DEVICE float* Out(const AttentionArgs& args, int line) const {
    return args.out.Row<float>(Row(line)) + Head(line) * args.head_dim;
  }
};

// Lines [tile * tile_lines, ...) of a sequence in a cache. False where there are none, or the
// launch does not serve them.
PREGATE_DEVICE bool FindLines(const AttentionArgs& args, int tile, int tile_lines, Lines* lines) {
  const auto s = static_cast<int>(blockIdx.z);
  const AttentionBatch& batch = args.batch;
  const int first_row = batch.row_start[s];
  const int rows = batch.row_start[s + 1] - first_row;
  const int total = rows * args.group;
  const int first = tile * tile_lines;
  if (first >= total || (total <= args.few_lines) != args.serves_few) return false;
  *lines = {static_cast<int>(blockIdx.y),
            first,
            total - first < tile_lines ? total - first : tile_lines,
            first_row,
            rows,
            batch.context_len[s],
            args.group,
            args.window,
            true,
            batch.block_ids + batch.block_start[s],
            0,
            0};
  lines->begin = lines->SeenBegin(0);
  lines->end = lines->SeenEnd(lines->count - 1);
  return true;
}

// --- Spans. ---

// Of a line's softmax over some positions: the maximum of the scores and the sum of
// 2^(score - max), times a constant of the engine's. Beside it goes the mix, the sum of the values
// weighted alike.
struct SpanSums {
  float max, sum;
};
struct MergeFactors {
  float keep, gain;
};

// total <- the sums of both's positions; how the mixes are to be merged.
PREGATE_DEVICE MergeFactors MergeSums(SpanSums part, SpanSums* total) {
  const float max = fmaxf(part.max, total->max);
  const MergeFactors factors = {exp2f(total->max - max), exp2f(part.max - max)};
  total->max = max;
  total->sum = __fmaf_rn(part.sum, factors.gain, __fmul_rn(total->sum, factors.keep));
  return factors;
}
PREGATE_DEVICE float MergeMix(float part, MergeFactors factors, float total) {
  return __fmaf_rn(part, factors.gain, __fmul_rn(total, factors.keep));
}
// A zero comes out as +0: its sign could depend on what was merged that weighs nothing.
PREGATE_DEVICE float Finish(float mix, float sum) { return __fadd_rn(mix / sum, 0.0f); }

// A line of the sequences of few lines and a span: max, sum, and the mix [head_dim].
PREGATE_DEVICE float* PartialOf(const AttentionArgs& args, const Lines& lines, int line, int span) {
  const int64_t part = int64_t{blockIdx.z} * args.kv_heads + lines.kv_head;
  const int64_t index = (part * args.partial_lines + lines.first + line) * args.spans + span;
  return args.partials + index * (args.head_dim + 2);
}

// A line's numbers in shared memory.
struct LineSums {
  SpanSums part, total;
  MergeFactors factors;
};

// The whole of a block's work. An Engine has
//   kLines                       lines of a block at most
//   kBlocks                      that should fit a multiprocessor, by registers
//   Engine(args, lines)
//   Begin()                      before the first span
//   RunSpan(begin, end)          computes positions [begin, end), which lie in one span
//   PublishSums(LineSums*)       sets `part` of all lines
//   Visit(f)                     calls f(line, i, mix) for the mixes of this thread
//   sums()                       shared memory for LineSums[kLines]
template <class Engine>
PREGATE_DEVICE void Attend(const AttentionArgs& args, Lines lines) {
  const bool walks = args.partials == nullptr;
  if (!walks) {
    const int own = static_cast<int>(blockIdx.x) % args.spans * kSpan;
    if (lines.begin < own) lines.begin = own;
    if (lines.end > own + kSpan) lines.end = own + kSpan;
    if (lines.begin >= lines.end) return;
  }
  Engine engine(args, lines);
  LineSums* const sums = engine.sums();
  engine.Begin();
  const int first = lines.begin / kSpan, last = (lines.end - 1) / kSpan;
  for (int span = first; span <= last; ++span) {
    engine.RunSpan(span == first ? lines.begin : span * kSpan,
                   span == last ? lines.end : (span + 1) * kSpan);
    engine.PublishSums(sums);
    __syncthreads();
    if (const auto line = static_cast<int>(threadIdx.x); line < lines.count) {
      LineSums& of = sums[line];
      if (!walks) {
        float* const partial = PartialOf(args, lines, line, span);
        partial[0] = of.part.max;
        partial[1] = of.part.sum;
      } else {
        if (span == first) of.total = {kEmptyMax, 0};
        of.factors = MergeSums(of.part, &of.total);
      }
    }
    __syncthreads();
    engine.Visit([&](int line, int i, float mix) {
      if (!walks) {
        PartialOf(args, lines, line, span)[2 + i] = mix;
        return;
      }
      // The merge of earlier spans waits where the result will be.
      float* const out = lines.Out(args, line) + i;
      mix = MergeMix(mix, sums[line].factors, span == first ? 0.0f : *out);
      *out = span == last ? Finish(mix, sums[line].total.sum) : mix;
    });
  }
}

// Over lines of sequences in a cache. Blocks along x are tiles of lines, or spans of each tile of
// lines; along y key-value heads, along z sequences.
template <class Engine>
__global__ void __launch_bounds__(kAttentionThreads, Engine::kBlocks)
    CacheAttentionKernel(const __grid_constant__ AttentionArgs args) {
  // The last rows see most: they start first.
  const auto block = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  Lines lines;
  if (!FindLines(args, args.partials == nullptr ? block : block / args.spans, Engine::kLines,
                 &lines)) {
    return;
  }
  Attend<Engine>(args, lines);
}

// `lines`: of a sequence at most.
template <class Engine>
void LaunchCacheAttention(Device& device, const AttentionArgs& args, int64_t lines) {
  const unsigned tiles = Blocks(lines, Engine::kLines);
  const unsigned along_x =
      args.partials == nullptr ? tiles : tiles * static_cast<unsigned>(args.spans);
  Launch(device, CacheAttentionKernel<Engine>,
         {{along_x, static_cast<unsigned>(args.kv_heads),
           static_cast<unsigned>(args.batch.num_sequences)},
          {kAttentionThreads},
          Engine::SharedBytes(args.head_dim)},
         args);
}

// The two engines over a cache: any head size and type; kF16, kBF16 and kF8E4M3 with head_dim % 16
// == 0. `wide`: blocks of many lines.
void LaunchSimtAttention(Device& device, const AttentionArgs& args, int64_t lines);
void LaunchMmaAttention(Device& device, const AttentionArgs& args, int64_t lines, bool wide);

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_ATTENTION_H_
