// Attention of encoders: no cache, every row sees the whole of its sequence. Heads do not share
// keys and values, so that a line is a row.
#include <algorithm>
#include <cassert>

#include "kernels/cuda/attention_simt.h"
#include "kernels/cuda/entries.h"

namespace pregate::cuda {
namespace {

// Sequences of one launch: they travel as an argument, of which there may be 4 KB.
constexpr int kSequences = 256;
struct Starts {
  int32_t row[kSequences + 1];
};

template <class Engine>
__global__ void __launch_bounds__(kAttentionThreads, Engine::kBlocks)
    SelfAttentionKernel(const __grid_constant__ AttentionArgs args,
                        const __grid_constant__ Starts starts) {
  const int32_t first_row = starts.row[blockIdx.z];
  const int32_t rows = starts.row[blockIdx.z + 1] - first_row;
  const auto first = static_cast<int>(blockIdx.x) * Engine::kLines;
  if (first >= rows) return;
  const int count = rows - first < Engine::kLines ? rows - first : Engine::kLines;
  Attend<Engine>(args, {static_cast<int>(blockIdx.y), first, count, first_row, rows, rows, 1, 0,
                        false, nullptr, 0, rows});
}

template <int kDims>
void LaunchFor(Device& device, const AttentionArgs& args, const Starts& starts, unsigned sequences,
               int32_t max_rows) {
  using Engine = SimtEngine<MatrixSource, kDims>;
  Launch(device, SelfAttentionKernel<Engine>,
         {{Blocks(max_rows, Engine::kLines), static_cast<unsigned>(args.kv_heads), sequences},
          {kAttentionThreads},
          Engine::SharedBytes(args.head_dim)},
         args, starts);
}

}  // namespace

void SelfAttention(Device& device, const pregate::SelfAttention& call) {
  AttentionArgs args = {};
  args.q = call.q;
  args.k = call.k;
  args.v = call.v;
  args.out = call.out;
  args.kv_heads = call.num_heads;
  args.group = 1;
  args.head_dim = static_cast<int>(call.q.cols / call.num_heads);
  assert(args.head_dim <= 256);
  SetScores(call.scale, 0, &args);
  const auto launch = args.head_dim <= 64    ? LaunchFor<64>
                      : args.head_dim <= 128 ? LaunchFor<128>
                                             : LaunchFor<256>;
  for (size_t s = 0; s + 1 < call.row_start.size(); s += kSequences) {
    const size_t count = std::min<size_t>(kSequences, call.row_start.size() - 1 - s);
    Starts starts = {};
    int32_t max_rows = 0;
    for (size_t i = 0; i <= count; ++i) {
      starts.row[i] = call.row_start[s + i];
      if (i > 0) max_rows = std::max(max_rows, starts.row[i] - starts.row[i - 1]);
    }
    launch(device, args, starts, static_cast<unsigned>(count), max_rows);
  }
}

}  // namespace pregate::cuda
