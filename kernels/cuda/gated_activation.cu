// Activations of any number of groups of rows in a launch: the experts of a layer.
#include <cassert>
#include <limits>

#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/quads.h"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 256;  // a quad for each

// GatedRows as the device sees them.
struct Group {
  const char* gate;
  const char* up;  // or null
  char* out;
  const uint32_t* owned;  // or null
  int32_t gate_stride, up_stride, out_stride;
  uint32_t cols;
  uint32_t items;        // quads of all rows
  uint32_t first_block;  // blocks of the groups before
};

// Travels with the launch: a kernel's arguments have 4 KB.
struct Groups {
  static constexpr int kMost = 64;
  Group group[kMost];
  int32_t count = 0;
  bool wide = true;
};
static_assert(sizeof(Groups) <= 3600);

template <Activation kActivation>
__device__ __forceinline__ float Activate(float x) {
  if constexpr (kActivation == Activation::kSilu) return x / (1.0f + expf(-x));
  if constexpr (kActivation == Activation::kRelu) return x > 0.0f ? x : 0.0f;
  if constexpr (kActivation == Activation::kGelu) return 0.5f * x * erfcf(-0.70710678f * x);
  if constexpr (kActivation == Activation::kTanh) return tanhf(x);
  if constexpr (kActivation == Activation::kGeluTanh) {
    // x / 2 * (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2 / pi) * (x + 0.044715 x^3).
    return x / (1.0f + expf(x * fmaf(x * x, -0.0713548162f, -1.5957691216f)));
  }
}

// The last group that begins at or before the block.
__device__ __forceinline__ const Group& GroupOf(const Groups& groups, uint32_t block) {
  int begin = 0, end = groups.count;
  while (end - begin > 1) {
    const int middle = (begin + end) / 2;
    (groups.group[middle].first_block <= block ? begin : end) = middle;
  }
  return groups.group[begin];
}

template <Activation kActivation>
__global__ void GatedActivationKernel(const __grid_constant__ Groups groups) {
  const Group& group = GroupOf(groups, blockIdx.x);
  const uint32_t item = (blockIdx.x - group.first_block) * kThreads + threadIdx.x;
  if (item >= group.items) return;
  const uint32_t quads = (group.cols + 3) / 4;
  const int64_t row = item / quads, column = 4 * int64_t{item % quads}, cols = group.cols;
  const auto load = [&](const char* data, int64_t stride) {
    return LoadQuad(reinterpret_cast<const float*>(data + row * stride), column, cols, groups.wide);
  };
  Quad value = load(group.gate, group.gate_stride);
  for (float& element : value.e) element = Activate<kActivation>(element);
  if (group.up != nullptr) {
    const Quad factor = load(group.up, group.up_stride);
    for (int i = 0; i < 4; ++i) value.e[i] *= factor.e[i];
  }
  if (group.owned != nullptr) {
    const uint32_t bits = group.owned[column / 32] >> column % 32;
    for (int i = 0; i < 4; ++i) value.e[i] = (bits >> i & 1) != 0 ? value.e[i] : 0.0f;
  }
  StoreQuad(reinterpret_cast<float*>(group.out + row * group.out_stride), column, cols, groups.wide,
            value);
}

using Kernel = void (*)(Groups);
Kernel KernelOf(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return GatedActivationKernel<Activation::kSilu>;
    case Activation::kGeluTanh:
      return GatedActivationKernel<Activation::kGeluTanh>;
    case Activation::kRelu:
      return GatedActivationKernel<Activation::kRelu>;
    case Activation::kGelu:
      return GatedActivationKernel<Activation::kGelu>;
    case Activation::kTanh:
      return GatedActivationKernel<Activation::kTanh>;
  }
  return nullptr;
}

int32_t Stride(ConstTensor x) {
  assert(x.stride >= 0 && x.stride <= std::numeric_limits<int32_t>::max());
  return static_cast<int32_t>(x.stride);
}

}  // namespace

void GatedActivation(Device& device, Activation activation, absl::Span<const GatedRows> groups) {
  const Kernel kernel = KernelOf(activation);
  Groups batch;
  uint32_t blocks = 0;
  const auto launch = [&] {
    Launch(device, kernel, {{blocks}, {kThreads}}, batch);
    batch.count = 0;
    batch.wide = true;
    blocks = 0;
  };
  for (const auto& [gate, up, owned, out] : groups) {
    assert(gate.rows == out.rows && gate.cols == out.cols);
    assert(!up || (up.rows == out.rows && up.cols == out.cols));
    assert(owned.empty() || 32 * static_cast<int64_t>(owned.size()) >= out.cols);
    const int64_t items = out.rows * QuadsOf(out.cols);
    assert(items <= std::numeric_limits<int32_t>::max());
    if (items == 0) continue;
    if (batch.count == Groups::kMost) launch();
    batch.group[batch.count++] = {static_cast<const char*>(gate.data),
                                  static_cast<const char*>(up.data),
                                  static_cast<char*>(out.data),
                                  AsGpu(device).ResidentList(owned),
                                  Stride(gate),
                                  Stride(up),
                                  Stride(out),
                                  static_cast<uint32_t>(out.cols),
                                  static_cast<uint32_t>(items),
                                  blocks};
    batch.wide = batch.wide && IsWide(gate) && (!up || IsWide(up)) && IsWide(out);
    blocks += Blocks(items, kThreads);
  }
  launch();
}

}  // namespace pregate::cuda
