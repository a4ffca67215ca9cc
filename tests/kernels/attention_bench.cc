#include <algorithm>
#include <memory>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "tests/kernels/bench.h"
#include "tests/kernels/kernel_cases.h"

namespace pregate {
namespace {

// Pairs of a row and a position that it sees.
double VisiblePairs(const AttentionCase& c) {
  double pairs = 0;
  for (const SequenceCase& s : c.sequences) {
    for (int32_t seen = s.context - s.rows + 1; seen <= s.context; ++seen) {
      pairs += c.window > 0 ? std::min(seen, c.window) : seen;
    }
  }
  return pairs;
}

// Bytes of the keys and values that the batch sees, each counted once.
double HistoryBytes(const AttentionCase& c) {
  double positions = 0;
  for (const SequenceCase& s : c.sequences) {
    positions += c.window > 0 ? std::min(s.context, c.window + s.rows - 1) : s.context;
  }
  const KvLayerView view = {nullptr, nullptr, c.dtype, c.block_tokens, c.kv_heads, c.head_dim, 0};
  return positions * 2 * c.kv_heads * static_cast<double>(KvPartBytes(view)) / c.block_tokens;
}

void RegisterCase(const Kernels* kernels, const AttentionCase& c) {
  struct Memory {
    PagedKv kv;
    PagedKv::Batch batch;
    GuardedMatrix q, out;
  };
  PagedKv kv(c, 1);
  kv.Append(BenchDevice(), *kernels);
  std::vector<size_t> all(c.sequences.size());
  std::iota(all.begin(), all.end(), size_t{0});
  PagedKv::Batch batch = kv.MakeBatch(all, c.sequences);
  const int64_t rows = batch.rows(), cols = int64_t{c.heads} * c.head_dim;
  const auto m = std::make_shared<Memory>(Memory{std::move(kv), std::move(batch),
                                                 RandomMatrix(rows, cols, 5, 2.0f),
                                                 GuardedMatrix(DType::kF32, rows, cols)});
  const std::string table(kernels->name);
  benchmark::RegisterBenchmark(absl::StrCat("attention/", table, "/", c.name).c_str(),
                               [=](benchmark::State& state) {
                                 for (auto _ : state) {
                                   kernels->attention(BenchDevice(), m->q.view(), m->kv.view(),
                                                      m->batch.view(), ParamsOf(c), m->out.view());
                                 }
                                 SetRates(state, HistoryBytes(c),
                                          4 * VisiblePairs(c) * c.heads * c.head_dim);
                               })
      ->UseRealTime();
  benchmark::RegisterBenchmark(absl::StrCat("kv_append/", table, "/", c.name).c_str(),
                               [=](benchmark::State& state) {
                                 for (auto _ : state) m->kv.Append(BenchDevice(), *kernels);
                                 const auto stored = static_cast<double>(
                                     RowBytes(c.dtype, int64_t{c.kv_heads} * c.head_dim));
                                 double positions = 0;
                                 for (const SequenceCase& s : c.sequences) positions += s.context;
                                 const double read = 4.0 * c.kv_heads * c.head_dim;
                                 SetRates(state, positions * 2 * (read + stored), 0);
                               })
      ->UseRealTime();
}

void RegisterSelfCase(const Kernels* kernels, const SelfAttentionCase& c) {
  struct Memory {
    std::vector<int32_t> row_start = {0};
    std::vector<GuardedMatrix> q_k_v_out;
  };
  const auto m = std::make_shared<Memory>();
  double pairs = 0;
  for (const int32_t rows : c.rows) {
    m->row_start.push_back(m->row_start.back() + rows);
    pairs += static_cast<double>(rows) * rows;
  }
  const int64_t rows = m->row_start.back(), cols = int64_t{c.heads} * c.head_dim;
  for (uint64_t i = 0; i < 4; ++i) m->q_k_v_out.push_back(RandomMatrix(rows, cols, i + 1));
  benchmark::RegisterBenchmark(
      absl::StrCat("self_attention/", std::string(kernels->name), "/", c.name).c_str(),
      [=](benchmark::State& state) {
        const auto& t = m->q_k_v_out;
        for (auto _ : state) {
          kernels->self_attention(BenchDevice(), {t[0].view(), t[1].view(), t[2].view(),
                                                  m->row_start, c.heads, 0.2f, t[3].view()});
        }
        SetRates(state, 4.0 * static_cast<double>(rows * cols) * sizeof(float),
                 4 * pairs * c.heads * c.head_dim);
      })
      ->UseRealTime();
}

}  // namespace

void RegisterAttentionBenchmarks() {
  for (const Kernels* kernels : BenchTables()) {
    for (const AttentionCase& c : kAttentionCases) {
      if (VisiblePairs(c) >= 1000) RegisterCase(kernels, c);
    }
    for (const AttentionCase& c : kLargeAttentionCases) RegisterCase(kernels, c);
    for (const SelfAttentionCase& c : kSelfAttentionCases) RegisterSelfCase(kernels, c);
  }
}

}  // namespace pregate
