// Rates of a benchmark beside the roof of this machine, measured on the spot.
#ifndef PREGATE_TESTS_KERNELS_BENCH_H_
#define PREGATE_TESTS_KERNELS_BENCH_H_

#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/kernels.h"

namespace pregate {

// One device for all benchmarks, with as many threads as this process may use.
Device& BenchDevice();

// One line about the device and its measured peaks, to stderr.
void PrintRoof();

// The tables that this machine runs, slowest first.
std::vector<const Kernels*> BenchTables();

// Adds GB/s and its share of the memory's read bandwidth (above 100 % where the data stays in the
// caches), and, if `flops` > 0, GFLOP/s and its share of the multiply-add rate. `bytes` and `flops`
// are of one iteration.
void SetRates(benchmark::State& state, double bytes, double flops);

// Adds GOP/s and its share of the rate of integer dot products. `operations` are of one iteration.
void SetIntegerRates(benchmark::State& state, double operations);

// Each file's rows.
void RegisterElementwiseBenchmarks();
void RegisterAttentionBenchmarks();
void RegisterMatmulBenchmarks();
void RegisterGroupedBenchmarks();
void RegisterLogitsBenchmarks();

}  // namespace pregate

#endif  // PREGATE_TESTS_KERNELS_BENCH_H_
