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
#include <limits>
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
  bool by_tiles = false;      // how it was packed
};

// out[r, n] = sum_k x[r, k] * weight[n, k] + bias[n], over all rows and columns of the weight or
// over some: tiles of 32, listed in ascending order. Expert e of a layer of tied experts is the
// tiles of the neurons that it owns.
struct Product {
  ConstTensor x;        // [R, K'] kF32, kQ16Act or kQ8Act; R may be 0
  PackedWeight weight;  // [N, K]
  // Column 32 i + j of out is row 32 out_tiles[i] + j of the weight; then N % 32 == 0. Empty: every
  // row.
  absl::Span<const int32_t> out_tiles = {};
  // Column 32 i + j of x meets column 32 in_tiles[i] + j of the weight; then K % 32 == 0, the
  // weight's type is plain or has blocks of 32, and it is packed by tiles. Empty: every column, K'
  // == K. Of a weight that is packed by tiles out_tiles pick nothing.
  absl::Span<const int32_t> in_tiles = {};
  const float* bias = nullptr;  // [N] or null; null where there are out_tiles
  bool accumulate = false;      // out += instead of out =
  Tensor out;                   // [R, N'] kF32
};

// out = x quantised: see Kernels::quantize_rows.
struct Quantization {
  ConstTensor x;  // [R, K] kF32, K % 32 == 0; R may be 0
  Tensor out;     // [R, K] kQ16Act or kQ8Act
};

// kGeluTanh approximates kGelu, x times the normal distribution's share below x.
enum class Activation : uint8_t { kSilu, kGeluTanh, kRelu, kGelu, kTanh };

// out[r, i] = activation(gate[r, i]) * up[r, i].
struct GatedRows {
  ConstTensor gate;  // [R, F] kF32; R may be 0
  ConstTensor up;    // the same; without data: the activation alone
  // Bit j of word i: column 32 i + j counts; the others become exactly 0, whatever stands in them.
  // Empty: all count.
  absl::Span<const uint32_t> owned;
  Tensor out;  // [R, F] kF32; may be gate or up
};

// How the scores of a gate become the experts of a row and their weights.
struct GateParams {
  enum class Scoring : uint8_t { kSoftmax, kSigmoid };
  int32_t k = 1;                        // experts a row, 1 .. E
  Scoring scoring = Scoring::kSoftmax;  // over all E
  bool renormalize = false;             // weights are divided by the sum of the k (1e-20 at least)
  float scale = 1.0f;                   // and multiplied by this
  // Every row has one expert more behind the k: number E, whose weight is the sigmoid of a logit of
  // its own, or 1.
  bool shared = false;
};

// Rows in the order of their experts: those of expert e are rows[start[e] .. start[e + 1]),
// ascending; the j-th expert of row r has it at positions[r, j]. In device memory.
struct ExpertOrder {
  int32_t* start = nullptr;      // [experts + 1]
  int32_t* rows = nullptr;       // [R * k]
  int32_t* positions = nullptr;  // [R, k]
  // Where experts are dealt out among devices, those that are here: [first, end), and `shared` if
  // it is not negative. The positions of rows of others are -1.
  int32_t first = 0;
  int32_t end = std::numeric_limits<int32_t>::max();
  int32_t shared = -1;
};

// out[i, :] = W_e x[i, :] for the rows i of [row_start[e], row_start[e + 1]), for every expert e.
struct GroupedProduct {
  ConstTensor x;                           // [M, K] as in Product
  absl::Span<const PackedWeight> weights;  // [experts], each [N, K], of one type
  const int32_t* row_start = nullptr;      // [experts + 1] in device memory
  int64_t max_rows = 0;                    // of one expert, at most
  Tensor out;                              // [M, N] kF32
};

// How the two halves of a rotated pair lie in a head.
enum class RopeStyle : uint8_t {
  kHalves,       // (x[i], x[i + n/2]): Hugging Face's rotate_half, "NeoX"
  kInterleaved,  // (x[2i], x[2i + 1]): GGUF's Llama family, whose rows were permuted for it
};

// One layer's paged keys and values. Block b holds `block_tokens` consecutive positions of one
// sequence: values as [kv_heads][block_tokens][head_dim], keys as
// [kv_heads][head_dim][block_tokens] (kernels/kv_layout.h says it to the byte); blocks are
// `block_stride` bytes apart. dtype kF32, kF16, kBF16, kQ8_0 (then head_dim % 32 == 0) or kF8E4M3.
struct KvLayerView {
  void* keys = nullptr;
  void* values = nullptr;
  DType dtype = DType::kF16;
  int32_t block_tokens = 16;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int64_t block_stride = 0;
};

// Bytes of one head's keys (or values) of one block, scales included.
int64_t KvPartBytes(const KvLayerView& kv);

// Which rows belong to which sequence and where its history lies: arrays of the batch plan, as the
// device sees them; the counts alone are the host's to read. Sequence s owns rows [row_start[s],
// row_start[s+1]), its last `n` positions of context_len[s]; its blocks are
// block_ids[block_start[s] .. block_start[s+1]), in order.
struct AttentionBatch {
  int32_t num_sequences = 0;
  int32_t max_rows = 0;     // of one sequence, at most
  int32_t max_context = 0;  // no context_len is larger
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

// Rows of some sequences, of which each sees all of its own and nothing else: sequence s owns rows
// [row_start[s], row_start[s+1]), row_start[0] being 0.
struct SelfAttention {
  ConstTensor q, k, v;                  // [R, num_heads * head_dim] kF32
  absl::Span<const int32_t> row_start;  // [sequences + 1]
  int32_t num_heads = 0;
  float scale = 1.0f;  // multiplies q.k before the softmax
  Tensor out;          // [R, num_heads * head_dim] kF32
};

// What Kernels::likeliest and draw_tokens may be asked for: tokens of a row, and the longest
// vocabulary.
inline constexpr int32_t kMaxLikeliest = 256;
inline constexpr int32_t kMaxLikeliestVocab = 1 << 20;

// A logit: of token `id` in row `row`.
struct LogitPlace {
  int32_t row = 0;
  int32_t id = 0;
};

// What becomes of a logit before a token is drawn: see EditedLogit in logit_math.h.
struct LogitEdit {
  LogitPlace place;
  float bias = 0.0f;        // is added; -infinity: the token cannot be drawn
  float repetition = 1.0f;  // then divides a logit above 0 and multiplies others; positive
  float penalty = 0.0f;     // is taken off in the end
};

// How a token is drawn from the first `vocab` logits of a row. Tokens weigh what LogitWeight says
// (logit_math.h) with the row's largest logit. Of all, top_k keeps the k likeliest as `likeliest`
// lists them; of these top_p keeps the shortest run, by descending weight and then ascending id,
// that weighs top_p of their sum or more (the product rounded once, to double); min_p those of them
// that weigh min_p or more. Drawn is the first of what is kept, by ascending id, with which the
// sum from the lowest id on exceeds `uniform` times the sum of all; where that product was rounded
// up to the sum, the last one that weighs anything. So top_k = 1 is the largest logit's token.
struct TokenDraw {
  int32_t row = 0;
  float scale = 1.0f;    // of LogitWeight: WeightScale(temperature)
  int32_t top_k = 0;     // 0: all; at most kMaxLikeliest
  float top_p = 1.0f;    // (0, 1]
  float min_p = 0.0f;    // [0, 1]
  double uniform = 0.0;  // [0, 1)
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

  // With y = x + residual (x alone, where residual has no data):
  // out[r, :] = (y[r, :] - mean(y[r, :])) / sqrt(variance(y[r, :]) + eps) * weight + bias.
  // x, residual, out [R, H] kF32, out may alias either; weight, bias [1, H] kF32.
  void (*layer_norm)(Device&, ConstTensor x, ConstTensor residual, ConstTensor weight,
                     ConstTensor bias, float eps, Tensor out);

  // Bytes that a [rows, cols] weight takes once packed; 0: the table cannot multiply by this type.
  // `cols` is a multiple of the type's block.
  int64_t (*packed_bytes)(DType dtype, int64_t rows, int64_t cols);

  // Writes a weight in the table's own form to `out`, packed_bytes long and 64-byte aligned. With
  // `by_tiles` columns that in_tiles picks together lie together; the weight is one that in_tiles
  // may pick from.
  void (*pack)(Device&, ConstTensor weight, bool by_tiles, void* out);

  // out[r, :] = scale * table[ids[r], :]. table [vocab, H]; out [R, H] kF32.
  void (*embed)(Device&, const PackedWeight& table, const int32_t* ids, float scale, Tensor out);

  // Quantises each matrix, to kQ16Act or kQ8Act as its `out` says. For each 32 elements and the
  // largest quant m, 32512 or 127: scale = max|x| / m, q = round to nearest even of x * (m /
  // max|x|) (in kQ16Act one more where its low byte would be -128; all zero where max|x| is below
  // 1e-34).
  void (*quantize_rows)(Device&, absl::Span<const Quantization> matrices);

  // Computes every product; no two share an `out`. What does not wait for each other belongs into
  // one call: its work is shared out together, and products of one weight with few rows read it
  // from memory once. Of a kQ13 weight x is kF32 and rounded first, each 128 elements as
  // quantize_rows would with m = 4095; there are no lists of tiles.
  void (*matmul)(Device&, absl::Span<const Product> products);

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

  // Attention of each row over all rows of its sequence, those behind it included, without a cache.
  void (*self_attention)(Device&, const SelfAttention& call);

  // Computes each group of rows.
  void (*gated_activation)(Device&, Activation activation, absl::Span<const GatedRows> groups);

  // out[r, :] = a[r, :] + b[r, :]. All [R, H] kF32; out may alias either.
  void (*add)(Device&, ConstTensor a, ConstTensor b, Tensor out);

  // out[i, :] = x[rows[i], :] for i < out.rows. kF32.
  void (*gather_rows)(Device&, ConstTensor x, const int32_t* rows, Tensor out);

  // The k experts of each row with the largest logits (and so scores), in descending order, equal
  // ones by ascending id, and their weights; behind them the shared expert, where there is one.
  // logits [R, E] kF32 (a NaN counts as the smallest); shared_logits [R, 1] kF32, or no data: the
  // shared expert's weight is 1. ids, weights [R, k], or [R, k + 1] with a shared expert.
  void (*top_k_gate)(Device&, ConstTensor logits, ConstTensor shared_logits,
                     const GateParams& params, int32_t* ids, float* weights);

  // out[r, :] = sum over j < k of weights[r, j] * y[positions[r, j], :], j ascending; a position of
  // -1 is left out. y [M, H], out [R, H] kF32; positions, weights [R, k]; weights null: all 1.
  void (*combine_rows)(Device&, ConstTensor y, const int32_t* positions, const float* weights,
                       int32_t k, Tensor out);

  // The next four are for a host that cannot read the logits, so that few of them cross. A NaN
  // counts as -infinity, +infinity as the largest float. 1 <= vocab <= kMaxLikeliestVocab.

  // The k likeliest tokens of each row and what all of its tokens weigh: of the first `vocab`
  // logits of row r the k largest in descending order, equal ones by ascending id, and
  //   totals[r] = sum over i < vocab of LogitWeight(logit[i], largest logit, WeightScale(1)).
  // `values` holds what logits count as. Where k > vocab, places from vocab on hold id -1 and
  // -infinity. A row without any number (all NaN or -infinity) gives ids 0, 1, 2, ..., values of
  // -infinity and the total 0. logits [L, >= vocab] kF32; ids, values [L, k]; totals [L], or null.
  // 1 <= k <= kMaxLikeliest.
  void (*likeliest)(Device&, ConstTensor logits, int32_t vocab, int32_t k, int32_t* ids,
                    float* values, double* totals);

  // values[i] = the logit at places[i], as it stands there.
  void (*gather_logits)(Device&, ConstTensor logits, absl::Span<const LogitPlace> places,
                        float* values);

  // The logit at each place becomes EditedLogit(logit, edit); no two edits share a place.
  void (*edit_logits)(Device&, Tensor logits, absl::Span<const LogitEdit> edits);

  // ids[i] is the token that draws[i] draws, values[i] what its logit counts as: see TokenDraw.
  // A row without any number gives id 0 and -infinity. logits [L, >= vocab] kF32; rows may come
  // several times.
  void (*draw_tokens)(Device&, ConstTensor logits, int32_t vocab, absl::Span<const TokenDraw> draws,
                      int32_t* ids, float* values);

  // What follows is for devices whose memory the host cannot read, and null in tables of others:
  // there the caller sorts, and gives each expert's rows to `matmul`.

  // ids [R, k], those of a row different, each below `experts`.
  void (*sort_by_expert)(Device&, const int32_t* ids, int64_t rows, int32_t k, int32_t experts,
                         const ExpertOrder& order);

  // Computes every product; bits are those of `matmul` with an expert's rows.
  void (*grouped_matmul)(Device&, absl::Span<const GroupedProduct> products);
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
