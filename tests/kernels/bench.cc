// kernels_bench: every entry of every table of this machine. Names are entry/table/case; choose
// with
// --benchmark_filter.
#include "tests/kernels/bench.h"

#include <cstdio>

#include "kernels/peaks.h"

namespace pregate {
namespace {

struct Roof {
  double bytes_per_second;
  double flops_per_second;
};

const Roof& MeasuredRoof() {
  static const Roof roof = {MeasureReadBandwidth(BenchDevice()), MeasureFmaRate(BenchDevice())};
  return roof;
}

}  // namespace

void PrintRoof() {
  std::fprintf(stderr, "%s: %.1f GB/s read, %.1f GFLOP/s fp32\n",
               std::string(BenchDevice().name()).c_str(), MeasuredRoof().bytes_per_second / 1e9,
               MeasuredRoof().flops_per_second / 1e9);
}

Device& BenchDevice() {
  static const std::unique_ptr<Device> device = MakeCpuDevice(0);
  return *device;
}

std::vector<const Kernels*> BenchTables() {
  std::vector<const Kernels*> tables;
  for (const CpuTable& table : AllCpuTables()) {
    if (table.runnable) tables.push_back(table.kernels);
  }
  return tables;
}

void SetRates(benchmark::State& state, double bytes, double flops) {
  using benchmark::Counter;
  const auto n = static_cast<double>(state.iterations());
  state.counters["GB/s"] = Counter(n * bytes / 1e9, Counter::kIsRate);
  state.counters["%mem"] =
      Counter(100 * n * bytes / MeasuredRoof().bytes_per_second, Counter::kIsRate);
  if (flops > 0) {
    state.counters["GFLOP/s"] = Counter(n * flops / 1e9, Counter::kIsRate);
    state.counters["%fma"] =
        Counter(100 * n * flops / MeasuredRoof().flops_per_second, Counter::kIsRate);
  }
}

void SetIntegerRates(benchmark::State& state, double operations) {
  static const double peak = MeasureInt8Rate(BenchDevice());
  using benchmark::Counter;
  const double total = static_cast<double>(state.iterations()) * operations;
  state.counters["GOP/s"] = Counter(total / 1e9, Counter::kIsRate);
  state.counters["%int8"] = Counter(100 * total / peak, Counter::kIsRate);
}

}  // namespace pregate

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  pregate::PrintRoof();
  pregate::RegisterElementwiseBenchmarks();
  pregate::RegisterAttentionBenchmarks();
  pregate::RegisterMatmulBenchmarks();
  pregate::RegisterGroupedBenchmarks();
  pregate::RegisterLogitsBenchmarks();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
