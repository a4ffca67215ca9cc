// Keys and values on their way into the cache; kernels/kv_layout.h says how they lie there.
//
// A block of threads has one head of a tile of rows, its keys or its values. Keys are turned in
// shared memory: positions that follow each other in the cache, as those of a prompt do, are
// written by neighbouring threads.
#include <algorithm>
#include <cassert>
#include <type_traits>

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

// The element type of a cache: float, uint16_t (halves), BFloat16, int8_t (quants of Q8_0) or E4M3.
struct BFloat16 {
  uint16_t bits;
};
struct E4M3 {
  uint8_t bits;
};

template <typename Element>
struct Encoded {
  Element e[4];
  uint16_t scale;  // Q8_0: of the 32 elements that lanes 8n .. 8n + 7 have; E4M3: of the row's
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

__device__ __forceinline__ void Encode(const Quad& x, Encoded<BFloat16>* out) {
  for (int i = 0; i < 4; ++i) {
    const float value = x.e[i];
    const float kept = value > kMaxBFloat16    ? kMaxBFloat16
                       : value < -kMaxBFloat16 ? -kMaxBFloat16
                                               : value;
    const uint32_t bits = __float_as_uint(kept);
    const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    out->e[i] = {static_cast<uint16_t>(kept == kept ? rounded : 0x7FC0u)};
  }
}

// FloatToE4M3 of a number that is at most 448.
__device__ __forceinline__ uint8_t ToE4M3(float value) {
  const uint32_t bits = __float_as_uint(value);
  const uint32_t sign = bits >> 24 & 0x80u, magnitude = bits & 0x7FFFFFFFu;
  const uint32_t normal = (magnitude - (120u << 23) + 0x7FFFFu + (magnitude >> 20 & 1u)) >> 20;
  const uint32_t steps =  // of 2^-9
      __float_as_uint(__fadd_rn(__uint_as_float(magnitude), 0x1p14f)) - __float_as_uint(0x1p14f);
  return static_cast<uint8_t>(sign | (magnitude < 121u << 23 ? steps : normal));
}

// out->scale is what the row is divided by.
__device__ __forceinline__ void Encode(const Quad& x, Encoded<E4M3>* out) {
  const uint32_t exponent = out->scale >> 10;  // plus 15
  const float power = __uint_as_float((127 + 15 - exponent) << 23);
  for (int i = 0; i < 4; ++i) {
    const float scaled = __fmul_rn(x.e[i], power);
    out->e[i] = {ToE4M3(fminf(fmaxf(scaled, -kMaxE4M3), kMaxE4M3))};
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

__device__ __forceinline__ void StoreValues(const Encoded<BFloat16>& x, char* row, int column,
                                            int dim, bool wide) {
  StoreValues(Encoded<uint16_t>{{x.e[0].bits, x.e[1].bits, x.e[2].bits, x.e[3].bits}, 0}, row,
              column, dim, wide);
}

__device__ __forceinline__ void StoreValues(const Encoded<E4M3>& x, char* row, int column, int dim,
                                            bool wide) {
  if (wide && column + 4 <= dim) {
    *reinterpret_cast<uint32_t*>(row + column) = x.e[0].bits | uint32_t{x.e[1].bits} << 8 |
                                                 uint32_t{x.e[2].bits} << 16 |
                                                 uint32_t{x.e[3].bits} << 24;
    return;
  }
  for (int i = 0; i < 4; ++i) {
    if (column + i < dim) row[column + i] = static_cast<char>(x.e[i].bits);
  }
}

__device__ __forceinline__ void StoreValues(const Encoded<int8_t>& x, char* row, int column, int,
                                            bool) {
  Q8Block& block = reinterpret_cast<Q8Block*>(row)[column / 32];
  if (column % 32 == 0) block.scale = x.scale;
  for (int i = 0; i < 4; ++i) block.quants[column % 32 + i] = x.e[i];
}

template <typename Element>
constexpr bool kByRow = std::is_same_v<Element, E4M3>;  // a row has one scale

// A tile of keys in shared memory, turned: [head_dim][kPitch] elements, then, in Q8_0, scales
// [head_dim / 32][kTileRows], in E4M3 [kTileRows] of keys or values. The pitch spreads a row's
// elements over the banks.
template <typename Element>
struct KeyTile {
  static constexpr int kPitch = kTileRows + 4 / static_cast<int>(sizeof(Element));
  static constexpr bool kScaled = std::is_same_v<Element, int8_t>;
  static size_t Bytes(int dim) {
    const int scales = kScaled ? dim / 32 : kByRow<Element> ? 1 : 0;
    return static_cast<size_t>(dim) * kPitch * sizeof(Element) +
           static_cast<size_t>(scales) * kTileRows * sizeof(uint16_t);
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
      uint16_t* const to_scales = KvScales(kv, part) + slot % kv.block_tokens;
      for (int b = begin; b < kv.head_dim / 32; b += kStep) {
        to_scales[KeyScaleIndex(32 * b, kv.block_tokens)] = scales[b * kTileRows + row];
      }
    }
  }
};

// Finds the scales of a tile's rows, and stores them.
__device__ __forceinline__ void ScaleRows(const Append& call, const ConstTensor& x, void* base,
                                          int64_t first, int rows, int64_t head, uint16_t* scales) {
  const KvLayerView& kv = call.kv;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int row = static_cast<int>(threadIdx.x) / kWarp; row < rows; row += kThreads / kWarp) {
    const float* const from = x.Row<float>(first + row) + head * kv.head_dim;
    float max = 0;
    for (int i = lane; i < kv.head_dim; i += kWarp) max = fmaxf(max, fabsf(from[i]));
    const uint16_t scale = F8Scale(F8Exponent(__float_as_uint(WarpMax(max))));
    if (lane > 0) continue;
    scales[row] = scale;
    const int32_t slot = call.slots[first + row];
    char* const part = KvPart(kv, base, call.part_bytes, slot / kv.block_tokens, head);
    KvScales(kv, part)[slot % kv.block_tokens] = scale;
  }
  __syncthreads();
}

template <typename Element>
__global__ void __launch_bounds__(kThreads) KvAppendKernel(Append call) {
  const int64_t first = int64_t{blockIdx.x} * kTileRows, head = blockIdx.y;
  const bool keys = blockIdx.z == 0;
  const KvLayerView& kv = call.kv;
  const ConstTensor& x = keys ? call.k : call.v;
  const int dim = kv.head_dim, quads = (dim + 3) / 4;
  const int rows = x.rows - first < kTileRows ? static_cast<int>(x.rows - first) : kTileRows;
  const KeyTile<Element> tile(dim);
  if constexpr (kByRow<Element>) {
    ScaleRows(call, x, keys ? kv.keys : kv.values, first, rows, head, tile.scales);
  }
  // Whole warps: lanes that share a block of Q8_0 meet in Encode.
  for (int base = 0; base < rows * quads; base += kThreads) {
    const int item = base + static_cast<int>(threadIdx.x);
    const int row = item / quads, column = item % quads * 4;
    const bool any = item < rows * quads;
    const Quad quad =
        any ? LoadQuad(x.Row<float>(first + row) + head * dim, column, dim, call.wide_input)
            : Quad{};
    Encoded<Element> encoded;
    if constexpr (kByRow<Element>) encoded.scale = any ? tile.scales[row] : 0;
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
  } else if (kv.dtype == DType::kBF16) {
    LaunchAppend<BFloat16>(device, call);
  } else if (kv.dtype == DType::kF8E4M3) {
    LaunchAppend<E4M3>(device, call);
  } else {
    assert(kv.dtype == DType::kQ8_0 && kv.head_dim % 32 == 0);
    LaunchAppend<int8_t>(device, call);
  }
}

}  // namespace pregate::cuda
