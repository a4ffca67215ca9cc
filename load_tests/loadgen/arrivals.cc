#include "load_tests/loadgen/arrivals.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"

namespace pregate {
namespace {

constexpr int32_t kLongest = 1000000;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

absl::StatusOr<Arrival> ParseRow(absl::string_view row, int64_t line, absl::Time* time) {
  const std::vector<absl::string_view> fields = absl::StrSplit(row, ',');
  Arrival arrival;
  std::string error;
  if (fields.size() != 3 || !absl::ParseTime("%Y-%m-%d %H:%M:%E*S", fields[0], time, &error) ||
      !absl::SimpleAtoi(fields[1], &arrival.prompt_tokens) ||
      !absl::SimpleAtoi(fields[2], &arrival.max_tokens) || arrival.prompt_tokens < 0 ||
      arrival.max_tokens < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "trace: line ", line, " must be a time and two counts; got ", row.substr(0, 64)));
  }
  return arrival;
}

}  // namespace

absl::StatusOr<LengthRange> ParseLengthRange(std::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(View(text), absl::MaxSplits(':', 1));
  LengthRange range;
  const bool fixed = parts.second.empty();
  if (!absl::SimpleAtoi(parts.first, &range.low) ||
      !absl::SimpleAtoi(fixed ? parts.first : parts.second, &range.high) || range.low < 1 ||
      range.high < range.low || range.high > kLongest) {
    return absl::InvalidArgumentError(absl::StrCat(
        "length: must be N or LOW:HIGH with 1 <= LOW <= HIGH <= ", kLongest, "; got ", View(text)));
  }
  return range;
}

std::vector<Arrival> MakeArrivals(const SyntheticLoad& load) {
  std::mt19937_64 random(load.seed);
  // Gaps of mean 1 / rate whose standard deviation is `burstiness` times that.
  const double shape = 1.0 / (load.burstiness * load.burstiness);
  std::gamma_distribution<double> gap(shape, 1.0 / (load.rate * shape));
  std::uniform_int_distribution<int32_t> prompt(load.prompt_tokens.low, load.prompt_tokens.high);
  std::uniform_int_distribution<int32_t> answer(load.max_tokens.low, load.max_tokens.high);
  std::vector<Arrival> arrivals;
  for (double now = gap(random); now < load.duration_s; now += gap(random)) {
    Arrival arrival;
    arrival.time_s = now;
    arrival.prompt_tokens = prompt(random);
    arrival.max_tokens = answer(random);
    arrivals.push_back(arrival);
  }
  return arrivals;
}

absl::StatusOr<std::vector<Arrival>> ParseTrace(std::string_view csv, const TraceOptions& options) {
  std::vector<Arrival> arrivals;
  absl::Time start;
  int64_t line = 0;
  for (absl::string_view row : absl::StrSplit(View(csv), '\n')) {
    ++line;
    row = absl::StripSuffix(row, "\r");
    if (row.empty() || (line == 1 && absl::StrContains(row, "TIMESTAMP"))) continue;
    absl::Time time;
    absl::StatusOr<Arrival> arrival = ParseRow(row, line, &time);
    if (!arrival.ok()) return arrival.status();
    if (arrivals.empty()) start = time;
    arrival->time_s = absl::ToDoubleSeconds(time - start) / options.speed;
    if (options.duration_s > 0 && arrival->time_s >= options.duration_s) break;
    arrival->prompt_tokens = std::clamp(arrival->prompt_tokens, 1, options.max_prompt_tokens);
    arrival->max_tokens = std::clamp(arrival->max_tokens, 1, options.max_max_tokens);
    arrivals.push_back(*arrival);
  }
  if (arrivals.empty()) return absl::InvalidArgumentError("trace: must have rows; got none");
  std::stable_sort(arrivals.begin(), arrivals.end(),
                   [](const Arrival& a, const Arrival& b) { return a.time_s < b.time_s; });
  return arrivals;
}

}  // namespace pregate
