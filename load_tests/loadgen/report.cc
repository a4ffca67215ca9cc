#include "load_tests/loadgen/report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "absl/strings/str_format.h"

namespace pregate {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const Distribution& d) {
  return {{"count", d.count}, {"mean", d.mean}, {"p50", d.p50},   {"p90", d.p90},
          {"p95", d.p95},     {"p99", d.p99},   {"p999", d.p999}, {"max", d.max}};
}

// Gaps between tokens. Tokens that came in one message came at once: gaps of zero.
void AppendGaps(const RequestRecord& record, std::vector<double>* gaps) {
  for (size_t i = 0; i < record.token_s.size(); ++i) {
    if (i > 0) gaps->push_back(record.token_s[i] - record.token_s[i - 1]);
    for (int32_t k = 1; k < record.token_counts[i]; ++k) gaps->push_back(0.0);
  }
}

}  // namespace

double RequestRecord::longest_gap_s() const {
  double longest = 0;
  for (size_t i = 1; i < token_s.size(); ++i) {
    longest = std::max(longest, token_s[i] - token_s[i - 1]);
  }
  return longest;
}

int64_t RequestRecord::tokens() const {
  return std::accumulate(token_counts.begin(), token_counts.end(), int64_t{0});
}

Distribution Summarize(std::vector<double> values) {
  Distribution d;
  if (values.empty()) return d;
  std::sort(values.begin(), values.end());
  const double count = static_cast<double>(values.size());
  const auto rank = [&](double p) {
    const size_t index = static_cast<size_t>(std::ceil(p * count));
    return values[std::clamp<size_t>(index, 1, values.size()) - 1];
  };
  d.count = static_cast<int64_t>(values.size());
  d.mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  d.p50 = rank(0.50);
  d.p90 = rank(0.90);
  d.p95 = rank(0.95);
  d.p99 = rank(0.99);
  d.p999 = rank(0.999);
  d.max = values.back();
  return d;
}

Report MakeReport(const std::vector<RequestRecord>& records, double ttft_slo_s, double itl_slo_s) {
  Report report;
  std::vector<double> first, gaps, longest, whole, lag;
  int64_t tokens = 0, ok = 0, good = 0;
  double start = records.empty() ? 0 : records[0].intended_s;
  double end = start;
  for (const RequestRecord& record : records) {
    ++report.statuses[record.status];
    if (record.status != "OK") report.errors.emplace(record.status, record.error);
    start = std::min(start, record.intended_s);
    end = std::max(end, record.end_s);
    lag.push_back(record.sent_s - record.intended_s);
    tokens += record.tokens();
    if (record.status != "OK" || record.token_s.empty()) continue;
    ++ok;
    const double ttft = record.token_s.front() - record.intended_s;
    first.push_back(ttft);
    whole.push_back(record.end_s - record.intended_s);
    AppendGaps(record, &gaps);
    longest.push_back(record.longest_gap_s());
    const int64_t count = record.tokens();
    report.short_answers += count < record.max_tokens;
    const double mean_gap =
        count > 1 ? (record.token_s.back() - record.token_s.front()) / (count - 1) : 0.0;
    good += ttft <= ttft_slo_s && mean_gap <= itl_slo_s;
  }
  report.requests = static_cast<int64_t>(records.size());
  report.duration_s = end - start;
  if (report.duration_s > 0) {
    report.output_tokens_per_s = tokens / report.duration_s;
    report.requests_per_s = ok / report.duration_s;
    report.goodput_per_s = good / report.duration_s;
  }
  report.time_to_first_token = Summarize(std::move(first));
  report.inter_token = Summarize(std::move(gaps));
  report.longest_gap = Summarize(std::move(longest));
  report.end_to_end = Summarize(std::move(whole));
  report.lag = Summarize(std::move(lag));
  return report;
}

bool KeptUp(const Report& report) { return report.lag.p99 <= kMaxLagP99S; }

std::string ToJson(const Report& report, const std::vector<RequestRecord>& records,
                   const std::string& settings) {
  Json json;
  json["settings"] = Json::parse(settings);
  json["summary"] = {{"requests", report.requests},
                     {"statuses", report.statuses},
                     {"errors", report.errors},
                     {"short_answers", report.short_answers},
                     {"duration_s", report.duration_s},
                     {"output_tokens_per_s", report.output_tokens_per_s},
                     {"requests_per_s", report.requests_per_s},
                     {"goodput_per_s", report.goodput_per_s},
                     {"time_to_first_token_s", ToJson(report.time_to_first_token)},
                     {"inter_token_s", ToJson(report.inter_token)},
                     {"longest_gap_s", ToJson(report.longest_gap)},
                     {"end_to_end_s", ToJson(report.end_to_end)},
                     {"generator_lag_s", ToJson(report.lag)},
                     {"generator_cpu_s", report.generator_cpu_s},
                     {"generator_kept_up", KeptUp(report)}};
  Json& requests = json["requests"] = Json::array();
  for (const RequestRecord& record : records) {
    requests.push_back({{"intended_s", record.intended_s},
                        {"sent_s", record.sent_s},
                        {"first_token_s", record.token_s.empty() ? -1 : record.token_s.front()},
                        {"last_token_s", record.token_s.empty() ? -1 : record.token_s.back()},
                        {"longest_gap_s", record.longest_gap_s()},
                        {"end_s", record.end_s},
                        {"prompt_tokens", record.prompt_tokens},
                        {"output_tokens", record.tokens()},
                        {"status", record.status}});
  }
  // Words of a server may be any bytes.
  return json.dump(1, ' ', false, Json::error_handler_t::replace);
}

std::string ToTable(const Report& report) {
  std::string table = absl::StrFormat(
      "%d requests in %.1f s: %.2f requests/s, %.1f output tokens/s, goodput %.2f requests/s\n",
      report.requests, report.duration_s, report.requests_per_s, report.output_tokens_per_s,
      report.goodput_per_s);
  for (const auto& [status, count] : report.statuses) {
    const auto error = report.errors.find(status);
    absl::StrAppendFormat(&table, "  %-20s %d%s%s\n", status, count,
                          error == report.errors.end() ? "" : "   e.g. ",
                          error == report.errors.end() ? "" : error->second);
  }
  if (report.short_answers > 0) {
    absl::StrAppendFormat(&table, "  %d answers are shorter than asked for\n",
                          report.short_answers);
  }
  absl::StrAppendFormat(&table, "%-22s %9s %9s %9s %9s %9s %9s %9s\n", "milliseconds", "mean",
                        "p50", "p90", "p95", "p99", "p99.9", "max");
  const auto row = [&](const char* name, const Distribution& d) {
    absl::StrAppendFormat(&table, "%-22s %9.2f %9.2f %9.2f %9.2f %9.2f %9.2f %9.2f\n", name,
                          d.mean * 1e3, d.p50 * 1e3, d.p90 * 1e3, d.p95 * 1e3, d.p99 * 1e3,
                          d.p999 * 1e3, d.max * 1e3);
  };
  row("time to first token", report.time_to_first_token);
  row("between tokens", report.inter_token);
  row("longest gap of each", report.longest_gap);
  row("end to end", report.end_to_end);
  row("generator's own lag", report.lag);
  return table;
}

}  // namespace pregate
