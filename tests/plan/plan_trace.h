// Traces: what is done to a scheduler and what comes out, as a table that is the test.
//
//   add 1: 1..6 max 2        |
//   step                     | +1:0-3
//   step 50                  | 1:4-5* => 1=50
//   step 51                  | 1:6* => 1=51.length
//
// Left of the bar stands an action:
//   add ID: TOKENS max N [min N] [stop IDS] [priority P] [salt S] [score]
//   plan, commit TOKENS, fail       the step in its phases
//   step TOKENS                     plan and commit; TOKENS are what is sampled, 7 where none is
//                                   given; nothing is behind a drafted token that was wrong
//   cancel ID, deadline ID
//   stats, drafts                   counts; tokens accepted/drafted, drafts, blocks used
// Right of it stands what came out, in the words of plan_text.h: the plan, "=>", the events.
#ifndef PREGATE_TESTS_PLAN_PLAN_TRACE_H_
#define PREGATE_TESTS_PLAN_PLAN_TRACE_H_

#include <sstream>
#include <string>
#include <vector>

#include "engine/plan/scheduler.h"

namespace pregate {

class PlanTrace {
 public:
  explicit PlanTrace(const SchedulerConfig& config);

  // Does what stands left of the bars, and returns the table with what came out.
  std::string Run(const std::string& table);

  Scheduler& scheduler() { return scheduler_; }

 private:
  std::string Act(std::istringstream& words);
  std::string Add(std::istringstream& words);
  std::string Cancel(std::istringstream& words, FinishReason reason);
  std::string Plan();
  std::string Commit(std::istringstream& words);
  std::string Events();
  std::string Stats() const;
  std::string Drafts() const;

  Scheduler scheduler_;
  BatchPlan plan_;
  std::vector<SequenceId> slot_owner_;
};

// Small and roomy: each test tightens what it is about.
SchedulerConfig SmallConfig();

// The table without its indentation and empty lines, its bars below each other.
std::string Tidy(const std::string& table);

}  // namespace pregate

#endif  // PREGATE_TESTS_PLAN_PLAN_TRACE_H_
