// attention of every table.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/table_test.h"

namespace pregate {
namespace {

class AttentionTest : public TableTest {
 protected:
  // Attention of some rows of the case's sequences; see PagedKv::MakeBatch.
  GuardedMatrix Run(const Kernels& kernels, Device& device, const AttentionCase& c,
                    const PagedKv& kv, const std::vector<size_t>& sequences,
                    const std::vector<SequenceCase>& parts) {
    const PagedKv::Batch batch = kv.MakeBatch(sequences, parts);
    GuardedMatrix q(DType::kF32, batch.rows(), int64_t{c.heads} * c.head_dim);
    for (size_t i = 0; i < sequences.size(); ++i) {
      for (int32_t j = 0; j < parts[i].rows; ++j) {
        const int32_t position = parts[i].context - parts[i].rows + j;
        const GuardedMatrix row = Query(c, sequences[i], position);
        std::copy_n(row.Row(0), q.view().cols, q.view().Row<float>(batch.row_start[i] + j));
      }
    }
    GuardedMatrix out(DType::kF32, batch.rows(), q.view().cols);
    kernels.attention(device, q.view(), kv.view(), batch.view(), ParamsOf(c), out.view());
    EXPECT_TRUE(out.GuardsIntact()) << c.name;
    return out;
  }

  static GuardedMatrix Query(const AttentionCase& c, size_t sequence, int32_t position) {
    const uint64_t seed = 100 + sequence * 100000 + static_cast<uint64_t>(position);
    return RandomMatrix(1, int64_t{c.heads} * c.head_dim, seed, 2.0f);
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, AttentionTest, testing::ValuesIn(TablesUnderTest()), TableName);

std::vector<size_t> AllSequences(const AttentionCase& c) {
  std::vector<size_t> all(c.sequences.size());
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

TEST_P(AttentionTest, TwoPositionsByHand) {
  // Scores 0 and ln 3: weights 1/4 and 3/4. Values 4 and 8 mix to 7.
  const AttentionCase c = {"hand", {{2, 1}}, 1, 1, 8, DType::kF32};
  const PagedKv kv(c, 1);
  float* keys = static_cast<float*>(kv.view().keys);
  float* values = static_cast<float*>(kv.view().values);
  const size_t slot[] = {static_cast<size_t>(kv.slots(0)[0] % 16), size_t{1}};
  const int64_t block = kv.slots(0)[0] / 16 * kv.view().block_stride / 4;
  for (int p = 0; p < 2; ++p) {
    for (size_t i = 0; i < 8; ++i) {
      keys[block + static_cast<int64_t>(i * 16 + slot[p])] = i == 3 ? static_cast<float>(p) : 0.0f;
      values[block + static_cast<int64_t>(slot[p] * 8 + i)] = p == 0 ? 4.0f : 8.0f;
    }
  }
  GuardedMatrix q(DType::kF32, 1, 8), out(DType::kF32, 1, 8);
  for (int i = 0; i < 8; ++i) q.view().Row<float>(0)[i] = std::log(3.0f) * 2;
  const PagedKv::Batch batch = kv.MakeBatch({0}, {{2, 1}});
  const auto attend = [&](AttentionParams params) {
    kernels().attention(*device_, q.view(), kv.view(), batch.view(), params, out.view());
    return out.Row(0)[5];
  };
  EXPECT_NEAR(attend({1, 0.5f, 0, 0}), 7.0f, 1e-5);
  EXPECT_NEAR(attend({1, 0.5f, 1, 0}), 8.0f, 1e-5);  // a window of one sees only itself
  // A cap of 1 makes the second score tanh(ln 3) = 0.8: weight e^0.8 / (1 + e^0.8).
  EXPECT_NEAR(attend({1, 0.5f, 0, 1}), 4 + 4 * std::exp(0.8) / (1 + std::exp(0.8)), 1e-5);
}

TEST_P(AttentionTest, MatchesTheReference) {
  for (const AttentionCase& c : kAttentionCases) {
    if (GetParam().slow && (c.name == "prefill" || c.name == "mixed")) continue;
    PagedKv kv(c, 1);
    kv.Append(*host_, reference());
    const auto all = AllSequences(c);
    const GuardedMatrix got = Run(kernels(), *device_, c, kv, all, c.sequences);
    const GuardedMatrix want = Run(reference(), *host_, c, kv, all, c.sequences);
    // Elements are below 2: a score's rounding is at most c K eps sum |q||k| <= c K eps 4 K, of
    // which random signs leave the square root; it scales the weights and so the mix of |v| <= 2.
    const double terms = c.head_dim;
    const double score_error = kEpsilon * (4 * std::sqrt(terms) + c.soft_cap + 8);
    const double tolerance = 2 * (2 * score_error + 32 * kEpsilon);
    for (int64_t r = 0; r < want.view().rows; ++r) {
      for (int64_t i = 0; i < want.view().cols; ++i) {
        ASSERT_NEAR(got.Row(r)[i], want.Row(r)[i], tolerance)
            << c.name << ": row " << r << ", column " << i;
      }
    }
  }
}

TEST_P(AttentionTest, ChunksBatchesAndThreadsDoNotChangeBits) {
  AttentionCase base = {"chunks", {{700, 300}, {90, 90}, {1300, 1}}, 9, 3, 64};
  if (GetParam().slow) base = {"chunks", {{550, 80}, {30, 30}, {1300, 1}}, 3, 1, 64};
  std::vector<AttentionCase> cases(6, base);
  cases[1].window = 130;
  cases[2].dtype = DType::kQ8_0;
  cases[3].soft_cap = 20;
  cases[4].dtype = DType::kBF16;
  cases[5].dtype = DType::kF8E4M3;
  if (&kernels() == &reference()) cases = {cases[1]};  // slow
  if (GetParam().slow) cases = {cases[1], cases[2], cases[5]};
  const auto [context, rows] = base.sequences[0];
  for (const AttentionCase& c : cases) {
    PagedKv kv(c, 3);
    kv.Append(*host_, reference());
    const GuardedMatrix whole = Run(kernels(), *device_, c, kv, AllSequences(c), c.sequences);
    const size_t row_bytes = static_cast<size_t>(whole.view().cols) * sizeof(float);
    for (const int threads : {1, 5}) {
      if (GetParam().slow && threads > 1) continue;  // those of its host
      const std::unique_ptr<Device> device = MakeDevice(threads);
      const GuardedMatrix again = Run(kernels(), *device, c, kv, AllSequences(c), c.sequences);
      EXPECT_TRUE(again.SameBits(whole)) << threads << " threads, window " << c.window;
      for (const int32_t chunk : {1, 16, rows}) {
        // Every chunk with one thread; with five, which split the history, a few.
        const int32_t step =
            threads == 1 && chunk > 1 && !GetParam().slow ? chunk : std::max(chunk, 37);
        for (int32_t done = 0; done + chunk <= rows; done += step) {
          const std::vector<SequenceCase> parts = {{1300, 1},
                                                   {context - rows + done + chunk, chunk}};
          const GuardedMatrix part = Run(kernels(), *device, c, kv, {2, 0}, parts);
          for (int32_t j = 0; j < chunk; ++j) {
            ASSERT_EQ(std::memcmp(part.Row(1 + j), whole.Row(done + j), row_bytes), 0)
                << "chunk of " << chunk << ", row " << done + j << ", " << threads
                << " threads, window " << c.window;
          }
          ASSERT_EQ(std::memcmp(part.Row(0), whole.Row(whole.view().rows - 1), row_bytes), 0);
        }
      }
    }
  }
}

// Blocks whose positions fill vectors are read as they lie, others are converted first: the chains
// of arithmetic are the same.
TEST_P(AttentionTest, BlockSizesDoNotChangeBits) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kF8E4M3}) {
    AttentionCase c = {"blocks", {{300, 1}, {77, 2}, {40, 40}, {131, 5}}, 6, 2, 64, dtype, 16, 90};
    const auto run = [&](int32_t block_tokens) {
      c.block_tokens = block_tokens;
      PagedKv kv(c, 5);
      kv.Append(*device_, kernels());
      return Run(kernels(), *device_, c, kv, AllSequences(c), c.sequences);
    };
    const GuardedMatrix want = run(16);
    for (const int32_t block_tokens : {1, 5, 8, 24, 32, 80, 512}) {
      if (GetParam().slow && block_tokens != 5 && block_tokens != 24) continue;
      EXPECT_TRUE(run(block_tokens).SameBits(want)) << block_tokens << " positions in a block";
    }
  }
}

}  // namespace
}  // namespace pregate
