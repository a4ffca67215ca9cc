// `pregate bench`'s report, for people and for programs.
#ifndef PREGATE_SERVER_BENCH_REPORT_H_
#define PREGATE_SERVER_BENCH_REPORT_H_

#include <string>

#include "engine/bench.h"

namespace pregate {

std::string BenchTable(const BenchReport& report);
std::string BenchJson(const BenchReport& report);

}  // namespace pregate

#endif  // PREGATE_SERVER_BENCH_REPORT_H_
