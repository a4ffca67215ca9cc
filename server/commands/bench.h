// `pregate bench MODEL`.
#ifndef PREGATE_SERVER_COMMANDS_BENCH_H_
#define PREGATE_SERVER_COMMANDS_BENCH_H_

#include "absl/status/status.h"
#include "server/config/config.h"

namespace pregate {

// Measures the model and writes the report to standard output. Errors as RunBench.
absl::Status Bench(const BenchConfig& config);

}  // namespace pregate

#endif  // PREGATE_SERVER_COMMANDS_BENCH_H_
