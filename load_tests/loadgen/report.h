// What a load run measured, as figures, JSON and a table.
#ifndef PREGATE_LOAD_TESTS_LOADGEN_REPORT_H_
#define PREGATE_LOAD_TESTS_LOADGEN_REPORT_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace pregate {

// One request as the client saw it. Times in seconds from the start of the run.
struct RequestRecord {
  double intended_s = 0;              // when it should have been sent: latencies count from here
  double sent_s = 0;                  // when it was sent: later by the generator's own lag
  std::vector<double> token_s;        // arrival of each message that carried tokens
  std::vector<int32_t> token_counts;  // how many it carried
  double end_s = 0;
  int32_t prompt_tokens = 0;
  int32_t max_tokens = 0;     // asked for; an answer that ended well has as many
  std::string status = "OK";  // canonical code name
  std::string error;          // what the server said when it is another

  int64_t tokens() const;
  double longest_gap_s() const;  // between messages with tokens; 0 if there are not two
};

// Percentiles of a sample, by the nearest-rank rule. All zero when it is empty.
struct Distribution {
  int64_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p95 = 0, p99 = 0, p999 = 0, max = 0;
};
Distribution Summarize(std::vector<double> values);

struct Report {
  int64_t requests = 0;
  std::map<std::string, int64_t> statuses;
  std::map<std::string, std::string> errors;  // one message for each status that is not OK
  int64_t short_answers = 0;  // ended well with fewer tokens than asked for: not comparable
  double duration_s = 0;      // first intended send to last end
  double output_tokens_per_s = 0;
  double requests_per_s = 0;
  double goodput_per_s = 0;  // requests a second that kept both limits
  Distribution time_to_first_token, inter_token, end_to_end, lag;
  Distribution longest_gap;    // of each answer, the longest gap between two messages with tokens
  double generator_cpu_s = 0;  // processor time of the generator itself; not from the records
};
// Only OK requests enter the latencies. `ttft_slo_s`, `itl_slo_s`: limits of goodput on the time to
// first token and the mean gap between tokens.
Report MakeReport(const std::vector<RequestRecord>& records, double ttft_slo_s, double itl_slo_s);

// Whether the generator sent in time: if not, the run measured the generator and must not be used.
inline constexpr double kMaxLagP99S = 0.005;
bool KeptUp(const Report& report);

// {"settings": ..., "summary": ..., "requests": [...]}; `settings` is a JSON object.
std::string ToJson(const Report& report, const std::vector<RequestRecord>& records,
                   const std::string& settings);
std::string ToTable(const Report& report);

}  // namespace pregate

#endif  // PREGATE_LOAD_TESTS_LOADGEN_REPORT_H_
