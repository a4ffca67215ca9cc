#include "server/commands/bench.h"

#include <cstdio>
#include <string>

#include "server/bench_report.h"
#include "server/commands/progress_bar.h"

namespace pregate {
namespace {

// Whoever started this says when, by a line; at the end of its lines nobody is waited for.
void AwaitTurn() {
  std::fputs("ready\n", stdout);
  std::fflush(stdout);
  for (int c = std::getchar(); c != '\n' && c != EOF;) c = std::getchar();
}

absl::StatusOr<BenchReport> Measure(const BenchConfig& config) {
  const auto cells =
      static_cast<double>(config.bench.prompt_tokens.size() * config.bench.batch_sizes.size());
  int measured = 0;
  ProgressBar bar("Measuring");
  BenchOptions bench = config.bench;
  if (config.by_turns) bench.turn = AwaitTurn;
  return RunBench(config.model, config.engine, bench,
                  [&](const BenchRow&) { bar.Show(++measured / cells); });
}

}  // namespace

absl::Status Bench(const BenchConfig& config) {
  const absl::StatusOr<BenchReport> report = Measure(config);
  if (!report.ok()) return report.status();
  const std::string text = config.json ? BenchJson(*report) : BenchTable(*report);
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace pregate
