// The cases that the tests and the benchmark of the kernels share, and the memory they run in.
#ifndef PREGATE_TESTS_KERNELS_KERNEL_CASES_H_
#define PREGATE_TESTS_KERNELS_KERNEL_CASES_H_

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/kernels.h"

namespace pregate {

// Numbers in [-1, 1) from a seed: the same on every machine.
class Numbers {
 public:
  explicit Numbers(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  float Next() {
    state_ += 0x9E3779B97F4A7C15u;  // splitmix64
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return static_cast<float>(static_cast<int32_t>(z >> 40) - (1 << 23)) / (1 << 23);
  }

 private:
  uint64_t state_;
};

// A matrix whose rows are apart. Everything around its elements, and each element until it is
// written, is poison: all bits set, which reads as NaN in every element type.
class GuardedMatrix {
 public:
  GuardedMatrix(DType dtype, int64_t rows, int64_t cols, int64_t padding = 20)
      : row_bytes_(RowBytes(dtype, cols)), stride_(row_bytes_ + padding) {
    bytes_.assign(static_cast<size_t>(kGuard + rows * stride_ + kGuard), kPoison);
    view_ = {bytes_.data() + kGuard, dtype, rows, cols, stride_};
  }

  GuardedMatrix(GuardedMatrix&&) = default;
  GuardedMatrix& operator=(GuardedMatrix&&) = default;

  const Tensor& view() const { return view_; }
  const float* Row(int64_t r) const { return view_.Row<float>(r); }

  // Whether the bytes before, between and behind the rows are as they were.
  bool GuardsIntact() const {
    for (int64_t i = 0; i < static_cast<int64_t>(bytes_.size()); ++i) {
      const int64_t at = i - kGuard;
      const bool element = at >= 0 && at < view_.rows * stride_ && at % stride_ < row_bytes_;
      if (!element && bytes_[static_cast<size_t>(i)] != kPoison) return false;
    }
    return true;
  }

  bool SameBits(const GuardedMatrix& other) const { return bytes_ == other.bytes_; }

 private:
  static constexpr int64_t kGuard = 128;
  static constexpr char kPoison = '\xFF';
  int64_t row_bytes_;
  int64_t stride_;
  std::vector<char> bytes_;
  Tensor view_;
};

// kF32 elements in [-size, size).
inline GuardedMatrix RandomMatrix(int64_t rows, int64_t cols, uint64_t seed, float size = 1.0f) {
  GuardedMatrix matrix(DType::kF32, rows, cols);
  Numbers numbers(seed);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < cols; ++i) matrix.view().Row<float>(r)[i] = size * numbers.Next();
  }
  return matrix;
}

// Vectors of 8 and 16 floats, tiles of 4 vectors, strips of 2048: one less, exactly, one more.
struct MatrixCase {
  int64_t rows;
  int64_t cols;
};
inline const std::vector<MatrixCase> kMatrixCases = {
    {1, 1},     {3, 7},    {2, 8},    {5, 9},    {1, 15},   {4, 16},   {3, 17},
    {2, 31},    {1, 33},   {2, 63},   {7, 64},   {3, 65},   {17, 80},  {64, 256},
    {300, 576}, {1, 2047}, {2, 2048}, {1, 2049}, {9, 1536}, {1, 8192}, {33, 4099},
};

struct RopeCase {
  int64_t rows;
  int64_t heads;
  int32_t head_dim;
  int64_t rotated;
};
inline const std::vector<RopeCase> kRopeCases = {
    {1, 1, 8, 8},   {3, 2, 16, 16},  {2, 3, 32, 24},   {5, 9, 64, 64},   {2, 2, 80, 32},
    {1, 4, 96, 96}, {7, 1, 128, 64}, {2, 4, 256, 256}, {300, 9, 64, 64}, {3, 1, 72, 72},
};

struct SequenceCase {
  int32_t context;  // positions, the batch's rows included
  int32_t rows;
};

struct AttentionCase {
  std::string name;
  std::vector<SequenceCase> sequences;
  int32_t heads;
  int32_t kv_heads;
  int32_t head_dim;
  DType dtype = DType::kF16;
  int32_t block_tokens = 16;
  int32_t window = 0;
  float soft_cap = 0;
};
// Tiles of 64 positions, spans of 256 or 512, register tiles of 6 lines, 12 lines that read the
// cache itself, 16 lines whose spans are computed apart: around each; every head size.
inline const std::vector<AttentionCase> kAttentionCases = {
    {"one_position", {{1, 1}}, 1, 1, 8},
    {"around_a_tile", {{63, 1}, {64, 1}, {65, 1}, {1, 1}}, 3, 1, 64},
    {"around_a_span", {{255, 1}, {256, 2}, {257, 3}, {511, 1}, {513, 4}}, 9, 3, 64},
    {"around_two_spans", {{510, 1}, {511, 2}, {512, 1}, {513, 3}, {514, 1}}, 4, 2, 64},
    {"around_two_spans_f32", {{511, 1}, {512, 2}, {513, 9}}, 4, 2, 16, DType::kF32},
    {"three_spans", {{1040, 17}, {40, 3}, {1025, 16}, {520, 1}}, 2, 2, 64},
    {"three_spans_q8", {{1040, 17}, {40, 3}, {1025, 16}}, 2, 2, 32, DType::kQ8_0, 48},
    {"three_spans_alone", {{1100, 9}}, 4, 2, 16, DType::kF16, 16, 600},
    {"around_direct", {{130, 3}, {70, 4}, {100, 5}}, 9, 3, 64, DType::kF32},
    {"around_a_span_bf16", {{255, 1}, {256, 2}, {513, 4}}, 9, 3, 64, DType::kBF16},
    {"three_spans_bf16", {{1040, 17}, {40, 3}, {1025, 16}}, 2, 2, 32, DType::kBF16, 48},
    {"around_a_tile_f8", {{63, 1}, {64, 1}, {65, 1}, {1, 1}}, 3, 1, 64, DType::kF8E4M3},
    {"around_a_span_f8", {{255, 1}, {256, 2}, {513, 4}}, 9, 3, 64, DType::kF8E4M3},
    {"three_spans_f8", {{1040, 17}, {40, 3}, {1025, 16}}, 2, 2, 32, DType::kF8E4M3, 48},
    {"dim16_f32", {{70, 7}}, 4, 2, 16, DType::kF32},
    {"dim24_f32", {{40, 5}}, 2, 1, 24, DType::kF32},
    {"dim40", {{100, 3}}, 6, 2, 40},
    {"dim40_bf16", {{100, 3}}, 6, 2, 40, DType::kBF16},
    {"dim40_f8", {{100, 3}}, 6, 2, 40, DType::kF8E4M3},
    {"dim72", {{90, 13}}, 2, 2, 72},
    {"dim72_f8", {{90, 13}}, 2, 2, 72, DType::kF8E4M3, 24},
    {"dim80_f32", {{130, 9}}, 5, 1, 80, DType::kF32, 32},
    {"dim96_q8", {{150, 11}}, 4, 2, 96, DType::kQ8_0, 8},
    {"dim128_q8", {{200, 20}, {64, 64}}, 8, 2, 128, DType::kQ8_0},
    {"dim128_f8", {{200, 20}, {64, 64}}, 8, 2, 128, DType::kF8E4M3},
    {"dim192", {{66, 4}}, 2, 1, 192},
    {"dim256", {{300, 2}, {5, 5}}, 4, 1, 256},
    {"dim64_q8", {{145, 1}, {31, 1}, {300, 3}}, 9, 3, 64, DType::kQ8_0, 48},
    {"odd_block", {{129, 17}}, 4, 2, 32, DType::kF16, 5},
    {"odd_block_bf16", {{129, 17}}, 4, 2, 32, DType::kBF16, 5},
    {"odd_block_f8", {{129, 17}}, 4, 2, 32, DType::kF8E4M3, 5},
    {"block_of_eight_f8", {{150, 11}}, 4, 2, 96, DType::kF8E4M3, 8},
    {"window", {{700, 90}, {600, 1}, {20, 20}}, 4, 1, 64, DType::kF16, 16, 100},
    {"window_of_one", {{70, 10}}, 2, 2, 32, DType::kF32, 16, 1},
    {"window_q8", {{1200, 1}}, 4, 1, 256, DType::kQ8_0, 16, 512},
    {"window_f8", {{1200, 1}}, 4, 1, 256, DType::kF8E4M3, 16, 512},
    {"soft_cap", {{140, 30}}, 4, 2, 64, DType::kF32, 16, 0, 5.0f},
    {"window_and_cap", {{320, 65}}, 4, 2, 64, DType::kF16, 16, 64, 30.0f},
    {"decode_long", {{4096, 1}}, 9, 3, 64},
    {"decode_batch", {{200, 1}, {333, 1}, {17, 1}, {1000, 1}, {64, 1}, {65, 1}}, 9, 3, 64},
    {"prefill", {{300, 300}}, 9, 3, 64},
    {"mixed", {{90, 33}, {500, 1}, {700, 97}, {2, 1}}, 8, 8, 64},
};

// Sequences of an encoder, which see all of themselves.
struct SelfAttentionCase {
  std::string name;
  std::vector<int32_t> rows;  // of each sequence
  int32_t heads;
  int32_t head_dim;
};
// Tiles of 64 seen positions and of 96 rows, register tiles of 6 rows: around each.
inline const std::vector<SelfAttentionCase> kSelfAttentionCases = {
    {"one_row", {1}, 1, 8},
    {"register_tiles", {5, 6, 7}, 3, 16},
    {"around_a_tile", {63, 64, 65, 1}, 2, 32},
    {"around_two_tiles", {95, 96, 97, 128, 129}, 1, 64},
    {"odd_dim", {70, 3}, 3, 20},
    {"dim_72", {33}, 2, 72},
    {"dim_128", {193}, 2, 128},
    {"minilm_128", {128, 128, 128, 128}, 12, 32},
    {"mixed", {300, 2, 17, 512, 64}, 4, 64},
    {"two_spans", {530}, 1, 8},
};

// Segments of 8192 logits, 256 threads and lists of up to 256: around each.
struct LikeliestCase {
  int64_t rows;
  int32_t vocab;
  std::vector<int32_t> k;
};
inline const std::vector<LikeliestCase> kLikeliestCases = {
    {3, 1, {1, 2, 256}},       {5, 2, {1, 2, 3}},       {7, 31, {1, 30, 31, 32}},
    {4, 255, {64, 255, 256}},  {3, 256, {1, 255, 256}}, {4, 257, {2, 64, 256}},
    {9, 1000, {1, 7, 64}},     {5, 4099, {1, 50, 256}}, {3, 8191, {1, 64, 256}},
    {2, 8192, {1, 64}},        {3, 8193, {1, 64, 256}}, {2, 20001, {1, 64, 200}},
    {2, 128256, {1, 64, 256}}, {1, 262145, {1, 64}},
};

// Ways to draw a token: the row, the scale and the random number are the caller's.
struct DrawCase {
  const char* name;
  TokenDraw draw;
  bool peaked = false;  // the likeliest 64 tokens hold nearly everything
};
inline const std::vector<DrawCase> kDrawCases = {
    {"greedy", {.top_k = 1}},
    {"plain", {}},
    {"top_k", {.top_k = 40}},
    {"top_k_most", {.top_k = kMaxLikeliest}},
    {"top_k_top_p", {.top_k = 50, .top_p = 0.9f}},
    {"top_p_listed", {.top_p = 0.9f}, true},
    {"top_p_wide", {.top_p = 0.9f}},
    {"top_p_all", {.top_p = 1.0f - 0x1p-24f}},
    {"min_p", {.min_p = 0.05f}},
    {"everything", {.top_k = 200, .top_p = 0.8f, .min_p = 0.01f}},
    {"top_p_min_p", {.top_p = 0.95f, .min_p = 0.01f}},
    {"one_of_many", {.top_p = 1e-6f}},
    {"min_p_one", {.min_p = 1.0f}},
};

// For the benchmark alone: histories that no cache holds.
inline const std::vector<AttentionCase> kLargeAttentionCases = {
    {"decode_48x2048", std::vector<SequenceCase>(48, {2048, 1}), 9, 3, 64},
    {"decode_48x2048_mha_q8", std::vector<SequenceCase>(48, {2048, 1}), 8, 8, 64, DType::kQ8_0},
    {"decode_48x2048_bf16", std::vector<SequenceCase>(48, {2048, 1}), 9, 3, 64, DType::kBF16},
    {"decode_48x2048_q8", std::vector<SequenceCase>(48, {2048, 1}), 9, 3, 64, DType::kQ8_0},
    {"decode_48x2048_f8", std::vector<SequenceCase>(48, {2048, 1}), 9, 3, 64, DType::kF8E4M3},
    {"prefill_bf16", {{300, 300}}, 9, 3, 64, DType::kBF16},
    {"prefill_q8", {{300, 300}}, 9, 3, 64, DType::kQ8_0},
    {"prefill_f8", {{300, 300}}, 9, 3, 64, DType::kF8E4M3},
};

// Keys and values of some sequences in shuffled blocks; memory that holds no position is poison.
class PagedKv {
 public:
  PagedKv(const AttentionCase& c, uint64_t seed);

  const KvLayerView& view() const { return view_; }
  // float keys or values [context of sequence s, kv_heads * head_dim] as stored into the cache.
  const GuardedMatrix& keys(size_t s) const { return keys_[s]; }
  const GuardedMatrix& values(size_t s) const { return values_[s]; }
  // Cache positions of sequence s's positions.
  const std::vector<int32_t>& slots(size_t s) const { return slots_[s]; }
  // Appends every position of every sequence with the entry of a table.
  void Append(Device& device, const Kernels& kernels);
  bool SameBits(const PagedKv& other) const {
    return std::memcmp(memory_.data(), other.memory_.data(), memory_.size()) == 0;
  }

  // A batch in which sequence i is `sequences[i]`, `parts[i].rows` rows that end at
  // `parts[i].context`.
  struct Batch {
    std::vector<int32_t> row_start, context_len, block_start, block_ids;
    int32_t max_rows = 0, max_context = 0;
    AttentionBatch view() const {
      return {static_cast<int32_t>(context_len.size()),
              max_rows,
              max_context,
              row_start.data(),
              context_len.data(),
              block_start.data(),
              block_ids.data()};
    }
    int32_t rows() const { return row_start.back(); }
  };
  Batch MakeBatch(const std::vector<size_t>& sequences,
                  const std::vector<SequenceCase>& parts) const;

 private:
  std::unique_ptr<Device> device_ = MakeCpuDevice(1);  // gives the pages that a server would use
  DeviceBuffer memory_;
  KvLayerView view_;
  std::vector<GuardedMatrix> keys_, values_;
  std::vector<std::vector<int32_t>> slots_, blocks_;
};

inline AttentionParams ParamsOf(const AttentionCase& c) {
  return {c.heads, 1.0f / __builtin_sqrtf(static_cast<float>(c.head_dim)), c.window, c.soft_cap};
}

}  // namespace pregate

#endif  // PREGATE_TESTS_KERNELS_KERNEL_CASES_H_
