// The one list of kernels. A backend is a table of these functions; choosing a device, choosing an
// instruction set and comparing with the reference are all "take another table".
//
// Laws that every table keeps (tests/kernels checks them):
//   * A row's result depends on that row alone: bit for bit the same in any batch, chunk or order.
//   * Repeated runs are bit-equal, with any number of threads.
//   * Outputs never alias inputs, unless an entry says that they may.
//   * Padding bytes between a row's end and the next row's start are neither read nor written.
#ifndef PREGATE_KERNELS_KERNELS_H_
#define PREGATE_KERNELS_KERNELS_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/tensor.h"

namespace pregate {

// A weight matrix [rows, cols] in the form that a table's `matmul` streams: made by its `pack`,
// opaque to everyone else.
struct PackedWeight {
  const void* data = nullptr;
  DType dtype = DType::kF32;  // of the matrix that was packed
  int64_t rows = 0;           // N
  int64_t cols = 0;           // K
};

// out[r, n] = sum_k x[r, k] * weight[n, k] + bias[n], for the x of a `matmul`.
struct Product {
  PackedWeight weight;          // [N, K]
  const float* bias = nullptr;  // [N] or null
  Tensor out;                   // [R, N] kF32
};

enum class Activation : uint8_t { kSilu, kGeluTanh };

// How the two halves of a rotated pair lie in a head.
enum class RopeStyle : uint8_t {
  kHalves,       // (x[i], x[i + n/2]): Hugging Face's rotate_half, "NeoX"
  kInterleaved,  // (x[2i], x[2i + 1]): GGUF's Llama family, whose rows were permuted for it
};

// One layer's paged keys and values. Block b holds `block_tokens` consecutive positions of one
// sequence: values as [kv_heads][block_tokens][head_dim], keys as
// [kv_heads][head_dim][block_tokens] (kernels/kv_layout.h says it to the byte); blocks are
// `block_stride` bytes apart. dtype kF32, kF16 or kQ8_0 (then head_dim % 32 == 0).
struct KvLayerView {
  void* keys = nullptr;
  void* values = nullptr;
  DType dtype = DType::kF16;
  int32_t block_tokens = 16;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int64_t block_stride = 0;
};

// Which rows belong to which sequence and where its history lies: arrays of the batch plan, as the
// device sees them. Sequence s owns rows [row_start[s], row_start[s+1]), its last `n` positions of
// context_len[s]; its blocks are block_ids[block_start[s] .. block_start[s+1]), in order.
struct AttentionBatch {
  int32_t num_sequences = 0;
  const int32_t* row_start = nullptr;
  const int32_t* context_len = nullptr;
  const int32_t* block_start = nullptr;
  const int32_t* block_ids = nullptr;
};

struct AttentionParams {
  int32_t num_heads = 0;  // query heads; a multiple of kv_heads (grouped-query attention)
  float scale = 1.0f;     // multiplies q.k before the softmax
  int32_t window = 0;     // 0: all earlier positions; n: this one and the n - 1 before it
  float soft_cap = 0.0f;  // 0: none; c: scores become c * tanh(score / c)
};

struct Kernels {
  // "reference", "avx2", "avx512", "avx512vnni", ...
  std::string_view name;

  // What `matmul` wants its left operand to be for weights of a given type: kF32 or kQ16Act.
  // The float path (kF32) works for every weight type; kQ16Act and kQ8Act where the former is
  // named.
  DType activation_dtype[kNumDTypes];

  // out[r, :] = x[r, :] / sqrt(mean(x[r, :]^2) + eps) * (weight + weight_offset).
  // x, out [R, H] kF32 and may alias; weight [1, H] kF32. Per-head norms pass heads as rows.
  void (*rms_norm)(Device&, ConstTensor x, ConstTensor weight, float weight_offset, float eps,
                   Tensor out);

  // Bytes that a [rows, cols] weight takes once packed; 0: the table cannot multiply by this type.
  // `cols` is a multiple of the type's block.
  int64_t (*packed_bytes)(DType dtype, int64_t rows, int64_t cols);

  // Writes a weight in the table's own form to `out`, packed_bytes long and 64-byte aligned.
  void (*pack)(Device&, ConstTensor weight, void* out);

  // out[r, :] = scale * table[ids[r], :]. table [vocab, H]; out [R, H] kF32.
  void (*embed)(Device&, const PackedWeight& table, const int32_t* ids, float scale, Tensor out);

  // out = x quantised, to kQ16Act or kQ8Act as `out` says. x [R, K] kF32, K % 32 == 0. For each 32
  // elements and the largest quant m, 32512 or 127: scale = max|x| / m, q = round to nearest even
  // of x * (m / max|x|) (in kQ16Act one more where its low byte would be -128; all zero where
  // max|x| is below 1e-34).
  void (*quantize_rows)(Device&, ConstTensor x, Tensor out);

  // Computes every product of one x [R, K], kF32, kQ16Act or kQ8Act. Products that share an x
  // belong into one call: their work is shared out together.
  void (*matmul)(Device&, ConstTensor x, absl::Span<const Product> products);

  // cos_sin[r, 2i] = m * cos(positions[r] * inv_freq[i]), cos_sin[r, 2i + 1] = m * sin(same), for
  // i < half_dim; angles are formed in double. cos_sin [R, 2 * half_dim] kF32.
  void (*rope_table)(Device&, const int32_t* positions, const float* inv_freq, float magnitude,
                     Tensor cos_sin);

  // Rotates the first cos_sin.cols elements of every head of x, in place; the rest of each head is
  // left alone. x [R, heads * head_dim] kF32, cos_sin [R, rotated].
  void (*rope)(Device&, Tensor x, int32_t head_dim, ConstTensor cos_sin, RopeStyle style);

  // Stores keys and values of row r at slots[r] = block * block_tokens + offset.
  // k, v [R, kv_heads * head_dim] kF32.
  void (*kv_append)(Device&, ConstTensor k, ConstTensor v, const int32_t* slots, KvLayerView kv);

  // Causal attention of each row over its sequence's history in `kv`, which already holds the rows
  // themselves. q, out [R, num_heads * head_dim] kF32.
  void (*attention)(Device&, ConstTensor q, KvLayerView kv, const AttentionBatch& batch,
                    const AttentionParams& params, Tensor out);

  // out[r, :] = activation(gate[r, :]) * up[r, :]. All [R, F] kF32; out may alias gate or up.
  void (*gated_activation)(Device&, Activation activation, ConstTensor gate, ConstTensor up,
                           Tensor out);

  // out[r, :] = a[r, :] + b[r, :]. All [R, H] kF32; out may alias either.
  void (*add)(Device&, ConstTensor a, ConstTensor b, Tensor out);

  // out[i, :] = x[rows[i], :] for i < out.rows. kF32.
  void (*gather_rows)(Device&, ConstTensor x, const int32_t* rows, Tensor out);
};

// Plain loops with double accumulators: a complete backend, and the judge of the others.
const Kernels& ReferenceKernels();

// A CPU table: its name and whether this machine can run it.
struct CpuTable {
  const Kernels* kernels;
  bool runnable;
};
// Every CPU table of this build, slowest first, the reference not included.
std::vector<CpuTable> AllCpuTables();

// The fastest table this machine runs, or the one that `isa` names ("avx2", "reference", ...; the
// environment variable PREGATE_ISA when empty). NOT_FOUND lists the names; FAILED_PRECONDITION
// when this machine cannot run it.
absl::StatusOr<const Kernels*> CpuKernels(std::string_view isa = {});

}  // namespace pregate

#endif  // PREGATE_KERNELS_KERNELS_H_
