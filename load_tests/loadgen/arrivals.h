// When requests are sent and how long they are: decided before the run, so that a slow server
// cannot slow its own load down (open loop).
#ifndef PREGATE_LOAD_TESTS_LOADGEN_ARRIVALS_H_
#define PREGATE_LOAD_TESTS_LOADGEN_ARRIVALS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace pregate {

struct Arrival {
  double time_s = 0;  // intended send time, from the start of the run
  int32_t prompt_tokens = 0;
  int32_t max_tokens = 0;
};

// A length, fixed ("64") or drawn uniformly ("16:256").
struct LengthRange {
  int32_t low = 0;
  int32_t high = 0;
};
// INVALID_ARGUMENT unless 1 <= low <= high <= 10^6.
absl::StatusOr<LengthRange> ParseLengthRange(std::string_view text);

struct SyntheticLoad {
  double rate = 1.0;  // requests a second
  // Coefficient of variation of the gaps: 1 is Poisson; more is bursty (gamma-distributed gaps).
  double burstiness = 1.0;
  double duration_s = 10.0;
  LengthRange prompt_tokens = {64, 64};
  LengthRange max_tokens = {64, 64};
  uint64_t seed = 1;
};
std::vector<Arrival> MakeArrivals(const SyntheticLoad& load);
// `count` requests of the load's lengths, all at time 0.
std::vector<Arrival> MakeRequests(const SyntheticLoad& load, int64_t count);
// Makes the first `clients` requests what is left of those that clients who have been asking in a
// circle for long are found waiting for: prompts of one token, since theirs have been read, and the
// rest of an answer. A loop that begins with these is in its stride at once.
void BeginMidway(const SyntheticLoad& load, int64_t clients, std::vector<Arrival>* requests);

struct TraceOptions {
  double speed = 1.0;         // 2: twice as fast as recorded
  double length_scale = 1.0;  // 0.25: prompts and answers a quarter as long
  double duration_s = 0;      // 0: the whole trace; else its first seconds, after scaling
  // Longer ones are cut, after scaling; shorter ones than one token have one.
  int32_t max_prompt_tokens = 4096;
  int32_t max_max_tokens = 1024;
};
// Arrivals, in the order of their times, from a CSV in the format of the Azure LLM inference trace
// 2023: a header "TIMESTAMP,ContextTokens,GeneratedTokens", then rows such as
// "2023-11-16 18:15:46.6805900,374,44". INVALID_ARGUMENT names the line.
absl::StatusOr<std::vector<Arrival>> ParseTrace(std::string_view csv, const TraceOptions& options);

}  // namespace pregate

#endif  // PREGATE_LOAD_TESTS_LOADGEN_ARRIVALS_H_
