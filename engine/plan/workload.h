// Workload: what a server was asked to do, when, and which experts every token took: drawn at
// random, or recorded by `pregate serve --record-trace`.
//
// The file of a trace: JSON, one flat object a line, keys in any order, unknown ones ignored.
//   {"pregate_trace": 1, "experts": 7}                               first line
//   {"request": 3, "arrival": 1.25, "step": 40, "prompt": 12, "experts": "00113..",
//    "tokens": [..], "stop_ids": [..], "max_tokens": 64, "priority": 0, "salt": 0, "scored": 0}
//       One request that was taken: seconds since the start, steps begun before it came, prompt
//       tokens; of each token of prompt and answer, its expert (one of the 64 digits below) and its
//       id. Ids may be renamed (the same for the same), so that a trace need not hold what was
//       said (salts the same way, below 2^53); without them no two prompts share a prefix.
//       stop_ids: those of its tokens that end an answer, and so are never guessed. max_tokens, the
//       answer's length if left out, bounds its KV blocks. scored: the prompt's tokens were scored,
//       so that none came from the prefix cache.
//   {"cancel": 3, "step": 57, "in_step": 0}                          before that step, or while it
//   ran
//   {"step": 40, "seconds": 0.031, "stall": 0.002, "rows": 9, "experts": "013", "guessed": "0013",
//    "loaded": [5], "load_seconds": [0.02], "failed": []}
//       A step that ran, its time, its rows and the experts they needed; the experts of the tokens
//       guessed ahead of answers, right or wrong, in the order in which they were routed; and which
//       loads had ended since the step before it was planned.
// Other lines are ignored: a server's says how it was configured (engine/trace_config.h).
// Experts are digits of 0-9 A-Z a-z - _ in this order. Lines are in the order of what happened, a
// request's line when it ends.
#ifndef PREGATE_ENGINE_PLAN_WORKLOAD_H_
#define PREGATE_ENGINE_PLAN_WORKLOAD_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pregate {

struct WorkloadRequest {
  uint64_t id = 0;
  double arrival = 0;      // seconds
  int64_t step = -1;       // steps begun before it came; -1: not recorded
  int32_t prompt = 1;      // tokens
  int32_t max_tokens = 0;  // 0: those it has
  int32_t priority = 0;
  uint64_t salt = 0;
  bool scored = false;                 // with log-probabilities of the prompt
  std::vector<uint8_t> experts;        // of each token, at least one more than `prompt`
  std::vector<int32_t> tokens;         // of the same, or empty
  std::vector<int32_t> stop_ids = {};  // of `tokens`, ascending

  int32_t size() const { return static_cast<int32_t>(experts.size()); }
  int32_t answer() const { return size() - prompt; }
};

struct WorkloadCancel {
  uint64_t id = 0;
  int64_t step = 0;
  bool in_step = false;
};

struct WorkloadStep {
  double seconds = 0;
  double stall = 0;
  int32_t rows = 0;      // 0: not recorded
  uint64_t experts = 0;  // mask
  std::vector<uint8_t> guessed;
  std::vector<int32_t> loaded;
  std::vector<double> load_seconds;  // of `loaded`
  std::vector<int32_t> failed;
};

struct Workload {
  int32_t num_experts = 1;
  std::vector<WorkloadRequest> requests;  // by arrival
  std::vector<WorkloadCancel> cancels;    // by step
  std::vector<WorkloadStep> steps;        // empty: not recorded
};

// Random arrivals, lengths and experts: Poisson arrivals, lognormal lengths, and for each request a
// chain that stays with its expert or draws one by the request's own preference (Dirichlet(1)).
struct SyntheticWorkload {
  uint64_t seed = 1;
  int32_t num_experts = 7;
  int32_t requests = 1000;
  double rate = 0;          // requests a second; 0: all at once
  double prompt_mean = 70;  // tokens
  double answer_mean = 200;
  double deviation = 0.8;  // of the logarithms of both
  int32_t longest = 1024;  // of prompt, and of answer
  double stay = 0.61;      // with the preference's part: 71 % keep the token before's expert
};
Workload DrawWorkload(const SyntheticWorkload& synthetic);

// "" or "line N: what is wrong". Nothing is trusted: bounds, counts and numbers are checked.
std::string ReadWorkload(std::string_view text, Workload* workload);

// The lines of a file, each with its end.
std::string WorkloadHeader(int32_t num_experts);
std::string ToLine(const WorkloadRequest& request);
std::string ToLine(const WorkloadCancel& cancel);
std::string ToLine(int64_t step, const WorkloadStep& what);

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_WORKLOAD_H_
