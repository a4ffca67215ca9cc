#include "load_tests/loadgen/arrivals.h"

#include <algorithm>
#include <cmath>
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

struct TraceRow {
  absl::Time time;
  int32_t prompt_tokens = 0;
  int32_t max_tokens = 0;
};

absl::StatusOr<TraceRow> ParseRow(absl::string_view text, int64_t line) {
  const std::vector<absl::string_view> fields = absl::StrSplit(text, ',');
  TraceRow row;
  std::string error;
  // ParseTime also knows "infinite-future": no time that one can wait for.
  if (fields.size() != 3 || !absl::ParseTime("%Y-%m-%d %H:%M:%E*S", fields[0], &row.time, &error) ||
      row.time == absl::InfiniteFuture() || row.time == absl::InfinitePast() ||
      !absl::SimpleAtoi(fields[1], &row.prompt_tokens) ||
      !absl::SimpleAtoi(fields[2], &row.max_tokens) || row.prompt_tokens < 0 ||
      row.max_tokens < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "trace: line ", line, " must be a time and two counts; got ", text.substr(0, 64)));
  }
  return row;
}

absl::StatusOr<std::vector<TraceRow>> ParseRows(absl::string_view csv) {
  std::vector<TraceRow> rows;
  int64_t line = 0;
  for (absl::string_view text : absl::StrSplit(csv, '\n')) {
    ++line;
    text = absl::StripSuffix(text, "\r");
    if (text.empty() || (line == 1 && absl::StrContains(text, "TIMESTAMP"))) continue;
    absl::StatusOr<TraceRow> row = ParseRow(text, line);
    if (!row.ok()) return row.status();
    rows.push_back(*row);
  }
  if (rows.empty()) return absl::InvalidArgumentError("trace: must have rows; got none");
  std::stable_sort(rows.begin(), rows.end(),
                   [](const TraceRow& a, const TraceRow& b) { return a.time < b.time; });
  return rows;
}

int32_t ScaleLength(int32_t length, double scale, int32_t longest) {
  return static_cast<int32_t>(
      std::clamp(std::round(length * scale), 1.0, static_cast<double>(longest)));
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
  // The run is a stretch of a process that began long before it: one that began with the run would
  // begin with a burst more often than not, and offer more than `rate`.
  const double before = 100 * std::max(10.0, load.burstiness * load.burstiness) / load.rate;
  std::vector<double> times;
  for (double now = gap(random) - before; now < load.duration_s; now += gap(random)) {
    if (now >= 0) times.push_back(now);
  }
  std::vector<Arrival> arrivals = MakeRequests(load, static_cast<int64_t>(times.size()));
  for (size_t i = 0; i < times.size(); ++i) arrivals[i].time_s = times[i];
  return arrivals;
}

std::vector<Arrival> MakeRequests(const SyntheticLoad& load, int64_t count) {
  std::mt19937_64 random(~load.seed);  // not the stream that the times come from
  std::uniform_int_distribution<int32_t> prompt(load.prompt_tokens.low, load.prompt_tokens.high);
  std::uniform_int_distribution<int32_t> answer(load.max_tokens.low, load.max_tokens.high);
  std::vector<Arrival> requests(static_cast<size_t>(count));
  for (Arrival& request : requests) {
    request.prompt_tokens = prompt(random);
    request.max_tokens = answer(random);
  }
  return requests;
}

void BeginMidway(const SyntheticLoad& load, int64_t clients, std::vector<Arrival>* requests) {
  std::mt19937_64 random(load.seed);
  // Whoever looks in finds an answer the likelier the longer it is.
  std::vector<double> found;
  for (int32_t tokens = load.max_tokens.low; tokens <= load.max_tokens.high; ++tokens) {
    found.push_back(tokens);
  }
  std::discrete_distribution<int32_t> which(found.begin(), found.end());
  const int64_t first = std::min<int64_t>(clients, static_cast<int64_t>(requests->size()));
  for (int64_t i = 0; i < first; ++i) {
    const int32_t tokens = load.max_tokens.low + which(random);
    Arrival& request = (*requests)[static_cast<size_t>(i)];
    request.prompt_tokens = 1;
    request.max_tokens = std::uniform_int_distribution<int32_t>(1, tokens)(random);
  }
}

absl::StatusOr<std::vector<Arrival>> ParseTrace(std::string_view csv, const TraceOptions& options) {
  const absl::StatusOr<std::vector<TraceRow>> rows = ParseRows(View(csv));
  if (!rows.ok()) return rows.status();
  std::vector<Arrival> arrivals;
  for (const TraceRow& row : *rows) {
    const double time_s = absl::ToDoubleSeconds(row.time - rows->front().time) / options.speed;
    if (options.duration_s > 0 && time_s >= options.duration_s) break;
    arrivals.push_back(
        {time_s, ScaleLength(row.prompt_tokens, options.length_scale, options.max_prompt_tokens),
         ScaleLength(row.max_tokens, options.length_scale, options.max_max_tokens)});
  }
  return arrivals;
}

}  // namespace pregate
