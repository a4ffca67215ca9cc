// Rows of a table of embeddings.
#include "kernels/cuda/entries.h"
#include "kernels/cuda/lane_weights.h"
#include "kernels/cuda/weight_types.h"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 128;

// A thread writes eight elements: those of a lane that has the row.
template <DType kType>
__global__ void EmbedKernel(const void* packed, int rows, int cols, const int32_t* ids, float scale,
                            Tensor out) {
  const WeightView weight = ViewWeight<kType>(packed, rows, cols);
  const int unit = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int chunk = unit / 4, t = unit % 4;
  if (chunk * kChunkColumns >= cols) return;
  const int id = ids[blockIdx.y];
  LaneWeights<kType> weights;
  weights.Load(weight, id / kTileRows, chunk, id % 8 * 4 + t);
  float* const to = out.Row<float>(blockIdx.y);
  for (int i = 0; i < kLaneRows; ++i) {
    if (i != id % kTileRows / 8) continue;
    float values[kLaneColumns];
    weights.Values(i, values);
    for (int j = 0; j < kLaneColumns; ++j) {
      const int column = chunk * kChunkColumns + LaneColumn<kType>(t, j);
      if (column < cols) to[column] = __fmul_rn(values[j] * weight.factor, scale);
    }
  }
}

template <DType kType>
void LaunchType(Device& device, const PackedWeight& table, const int32_t* ids, float scale,
                const Tensor& out) {
  constexpr int64_t kMostRows = 65535;  // of a grid
  for (int64_t first = 0; first < out.rows; first += kMostRows) {
    Tensor part = out;
    part.data = out.Row<float>(first);
    part.rows = out.rows - first < kMostRows ? out.rows - first : kMostRows;
    Launch(device, EmbedKernel<kType>,
           {{Blocks(ChunksOf(table.cols) * 4, kThreads), static_cast<unsigned>(part.rows)},
            {kThreads}},
           table.data, static_cast<int>(table.rows), static_cast<int>(table.cols), ids + first,
           scale, part);
  }
}

}  // namespace

void Embed(Device& device, const PackedWeight& table, const int32_t* ids, float scale, Tensor out) {
  CallForWeightType(table.dtype,
                    [&]<DType kType>() { LaunchType<kType>(device, table, ids, scale, out); });
}

}  // namespace pregate::cuda
