// Keys and values on their way into the cache; kernels/kv_layout.h says how they lie there.
//
// A block of threads has one head of a tile of rows, its keys or its values. Keys are turned in
// shared memory: positions that follow each other in the cache, as those of a prompt do, are
// written by neighbouring threads.
#include <algorithm>
#include <cassert>

#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/quads.h"
#include "kernels/kv_layout.h"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kTileRows = 16;
// Half has no room above this; a value beyond it is stored as the largest, never as infinity.
constexpr float kMaxHalf = 65504.0f;

struct Append {
  ConstTensor k, v;
  const int32_t* slots;
  KvLayerView kv;
  int64_t part_bytes, row_bytes;  // of one head's values
  bool wide_input, wide_values;   // four elements at once
};

// The element type of a cache: float, uint16_t (halves) or int8_t (quants of Q8_0).
template <typename Element>
struct Encoded {
  Element e[4];
  uint16_t scale;  // Q8_0: of the 32 elements that lanes 8n .. 8n + 7 have
};

__device__ __forceinline__ void Encode(const Quad& x, Encoded<float>* out) {
  for (int i = 0; i < 4; ++i) out->e[i] = x.e[i];
}

__device__ __forceinline__ void Encode(const Quad& x, Encoded<uint16_t>* out) {
  for (int i = 0; i < 4; ++i) {
    const float value = x.e[i];  // a NaN stays one
    out->e[i] = ToHalf(value > kMaxHalf ? kMaxHalf : value < -kMaxHalf ? -kMaxHalf : value);
  }
}

__device__ __forceinline__ void Encode(const Quad& x, Encoded<int8_t>* out) {
  float max = 0;
  for (const float element : x.e) max = fmaxf(max, fabsf(element));
  for (int offset = 4; offset > 0; offset /= 2) {
    max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, offset));
  }
  out->scale = ToHalf(fminf(__fdiv_rn(max, 127.0f), kMaxHalf));
  // Quantised with the scale that will be read back, so that its rounding does no harm.
  const float scale = FromHalf(out->scale);
  for (int i = 0; i < 4; ++i) {
    const float q = scale == 0.0f ? 0.0f : rintf(__fdiv_rn(x.e[i], scale));
    out->e[i] = static_cast<int8_t>(fminf(fmaxf(q, -127.0f), 127.0f));
  }
}

// Elements [column, column + 4) of a row of values.
__device__ __forceinline__ void StoreValues(const Encoded<float>& x, char* row, int column, int dim,
                                            bool wide) {
  StoreQuad(reinterpret_cast<float*>(row), column, dim, wide, {{x.e[0], x.e[1], x.e[2], x.e[3]}});
}

__device__ __forceinline__ void StoreValues(const Encoded<uint16_t>& x, char* row, int column,
                                            int dim, bool wide) {
  uint16_t* const halves = reinterpret_cast<uint16_t*>(row) + column;
  if (wide && column + 4 <= dim) {
    *reinterpret_cast<uint2*>(halves) = {x.e[0] | uint32_t{x.e[1]} << 16,
                                         x.e[2] | uint32_t{x.e[3]} << 16};
    return;
  }
  for (int i = 0; i < 4; ++i) {
    if (column + i < dim) halves[i] = x.e[i];
  }
}

__device__ __forceinline__ void StoreValues(const Encoded<int8_t>& x, char* row, int column, int,
                                            bool) {
  Q8Block& block = reinterpret_cast<Q8Block*>(row)[column / 32];
  if (column % 32 == 0) block.scale = x.scale;
  for (int i = 0; i < 4; ++i) block.quants[column % 32 + i] = x.e[i];
}

// A tile of keys in shared memory, turned: [head_dim][kPitch] elements, then, in Q8_0, scales
// [head_dim / 32][kTileRows]. The pitch spreads a row's elements over the banks.
template <typename Element>
struct KeyTile {
  static constexpr int kPitch = kTileRows + 4 / static_cast<int>(sizeof(Element));
  static constexpr bool kScaled = sizeof(Element) == 1;
  static size_t Bytes(int dim) {
    return static_cast<size_t>(dim) * kPitch * sizeof(Element) +
           (kScaled ? static_cast<size_t>(dim / 32) * kTileRows * sizeof(uint16_t) : 0);
  }

  Element* elements;
  uint16_t* scales;

  __device__ explicit KeyTile(int dim)
      : elements(SharedArray<Element>()),
        scales(SharedArray<uint16_t>(static_cast<size_t>(dim) * kPitch * sizeof(Element))) {}

  __device__ void Put(const Encoded<Element>& x, int row, int column, int dim) const {
    for (int i = 0; i < 4; ++i) {
      if (column + i < dim) elements[(column + i) * kPitch + row] = x.e[i];
    }
    if (kScaled && column % 32 == 0) scales[column / 32 * kTileRows + row] = x.scale;
  }

  // Writes the keys of all `rows` rows, of which the first is row `first` of the call.
  __device__ void Store(const Append& call, int64_t first, int rows, int64_t head) const {
    constexpr int kStep = kThreads / kTileRows;
    const int row = static_cast<int>(threadIdx.x) % kTileRows;
    if (row >= rows) return;
    const KvLayerView& kv = call.kv;
    const int32_t slot = call.slots[first + row];
    char* const part = KvPart(kv, kv.keys, call.part_bytes, slot / kv.block_tokens, head);
    Element* const to = reinterpret_cast<Element*>(part) + slot % kv.block_tokens;
    const int begin = static_cast<int>(threadIdx.x) / kTileRows;
    for (int i = begin; i < kv.head_dim; i += kStep) {
      to[KeyIndex(i, kv.block_tokens)] = elements[i * kPitch + row];
    }
    if constexpr (kScaled) {
      uint16_t* const to_scales = Q8KeyScales(kv, part) + slot % kv.block_tokens;
      for (int b = begin; b < kv.head_dim / 32; b += kStep) {
        to_scales[KeyScaleIndex(32 * b, kv.block_tokens)] = scales[b * kTileRows + row];
      }
    }
  }
};

template <typename Element>
__global__ void __launch_bounds__(kThreads) KvAppendKernel(Append call) {
  const int64_t first = int64_t{blockIdx.x} * kTileRows, head = blockIdx.y;
  const bool keys = blockIdx.z == 0;
  const KvLayerView& kv = call.kv;
  const ConstTensor& x = keys ? call.k : call.v;
  const int dim = kv.head_dim, quads = (dim + 3) / 4;
  const int rows = x.rows - first < kTileRows ? static_cast<int>(x.rows - first) : kTileRows;
  const KeyTile<Element> tile(dim);
  // Whole warps: lanes that share a block of Q8_0 meet in Encode.
  for (int base = 0; base < rows * quads; base += kThreads) {
    const int item = base + static_cast<int>(threadIdx.x);
    const int row = item / quads, column = item % quads * 4;
    const bool any = item < rows * quads;
    const Quad quad =
        any ? LoadQuad(x.Row<float>(first + row) + head * dim, column, dim, call.wide_input)
            : Quad{};
    Encoded<Element> encoded;
    Encode(quad, &encoded);
    if (!any) continue;
    if (keys) {
      tile.Put(encoded, row, column, dim);
    } else {
      const int32_t slot = call.slots[first + row];
      char* const part = KvPart(kv, kv.values, call.part_bytes, slot / kv.block_tokens, head);
      StoreValues(encoded, part + slot % kv.block_tokens * call.row_bytes, column, dim,
                  call.wide_values);
    }
  }
  if (!keys) return;
  __syncthreads();
  tile.Store(call, first, rows, head);
}

template <typename Element>
void LaunchAppend(Device& device, Append call) {
  const KvLayerView& kv = call.kv;
  const auto base = static_cast<int64_t>(reinterpret_cast<uintptr_t>(kv.values));
  call.wide_input = IsWide(call.k) && IsWide(call.v) && kv.head_dim % 4 == 0;
  call.wide_values = (base | kv.block_stride | call.part_bytes | call.row_bytes) %
                         static_cast<int64_t>(4 * sizeof(Element)) ==
                     0;
  const Grid grid = {{Blocks(call.k.rows, kTileRows), static_cast<unsigned>(kv.kv_heads), 2},
                     {kThreads},
                     KeyTile<Element>::Bytes(kv.head_dim)};
  Launch(device, KvAppendKernel<Element>, grid, call);
}

}  // namespace

void KvAppend(Device& device, ConstTensor k, ConstTensor v, const int32_t* slots, KvLayerView kv) {
  assert(k.rows == v.rows && k.cols == v.cols && k.cols == int64_t{kv.kv_heads} * kv.head_dim);
  const Append call = {.k = k,
                       .v = v,
                       .slots = slots,
                       .kv = kv,
                       .part_bytes = KvPartBytes(kv),
                       .row_bytes = RowBytes(kv.dtype, kv.head_dim),
                       .wide_input = false,
                       .wide_values = false};
  if (kv.dtype == DType::kF32) {
    LaunchAppend<float>(device, call);
  } else if (kv.dtype == DType::kF16) {
    LaunchAppend<uint16_t>(device, call);
  } else {
    assert(kv.dtype == DType::kQ8_0 && kv.head_dim % 32 == 0);
    LaunchAppend<int8_t>(device, call);
  }
}

}  // namespace pregate::cuda
