#include "tests/plan/plan_trace.h"

#include <algorithm>
#include <utility>

#include "tests/plan/plan_text.h"

namespace pregate {
namespace {

std::string Strip(const std::string& text) {
  const size_t first = text.find_first_not_of(' ');
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

// The two cells of each line that is not empty.
std::vector<std::pair<std::string, std::string>> Cells(const std::string& table) {
  std::vector<std::pair<std::string, std::string>> cells;
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) {
    const size_t bar = line.find('|');
    const std::string action = Strip(line.substr(0, bar));
    if (action.empty()) continue;
    cells.emplace_back(action, bar == std::string::npos ? "" : Strip(line.substr(bar + 1)));
  }
  return cells;
}

std::string Table(const std::vector<std::pair<std::string, std::string>>& cells) {
  size_t width = 0;
  for (const auto& [action, outcome] : cells) width = std::max(width, action.size());
  std::string table;
  for (const auto& [action, outcome] : cells) {
    table += Strip(action + std::string(width - action.size(), ' ') + " | " + outcome) + "\n";
  }
  return table;
}

// "4" or "1..6" appended to `tokens`; false: another word.
bool ReadTokens(const std::string& word, std::vector<int32_t>* tokens) {
  if (word.find_first_not_of("0123456789.") != std::string::npos) return false;
  const size_t dots = word.find("..");
  const int32_t first = std::stoi(word);
  const int32_t last = dots == std::string::npos ? first : std::stoi(word.substr(dots + 2));
  for (int32_t token = first; token <= last; ++token) tokens->push_back(token);
  return true;
}

Request ReadRequest(std::istringstream& words) {
  Request request;
  char colon;
  words >> request.id >> colon;
  std::vector<int32_t>* tokens = &request.prompt;
  for (std::string word; words >> word;) {
    if (ReadTokens(word, tokens)) continue;
    if (word == "max") words >> request.max_tokens;
    if (word == "min") words >> request.min_tokens;
    if (word == "priority") words >> request.priority;
    if (word == "salt") words >> request.cache_salt;
    if (word == "stop") tokens = &request.stop_ids;
    if (word == "score") request.prompt_logits = true;
  }
  return request;
}

}  // namespace

std::string Tidy(const std::string& table) { return Table(Cells(table)); }

PlanTrace::PlanTrace(const SchedulerConfig& config)
    : scheduler_(config), slot_owner_(config.max_num_seqs) {}

std::string PlanTrace::Run(const std::string& table) {
  auto cells = Cells(table);
  for (auto& [action, outcome] : cells) {
    std::istringstream words(action);
    outcome = Act(words);
    const std::string broken = scheduler_.CheckInvariants();
    if (!broken.empty()) outcome += " BROKEN " + broken;
  }
  return Table(cells);
}

std::string PlanTrace::Act(std::istringstream& words) {
  std::string verb;
  words >> verb;
  if (verb == "add") return Add(words);
  if (verb == "cancel") return Cancel(words, FinishReason::kCancelled);
  if (verb == "deadline") return Cancel(words, FinishReason::kDeadline);
  if (verb == "plan") return Plan();
  if (verb == "commit") return Commit(words);
  if (verb == "stats") return Stats();
  if (verb == "drafts") return Drafts();
  if (verb == "step") {
    const std::string plan = Plan();
    const std::string events = plan_.empty() ? "" : Commit(words);
    return events.empty() ? plan : plan + " => " + events;
  }
  if (verb == "fail") {
    scheduler_.Fail(plan_);
    return Events();
  }
  return "no such action";
}

std::string PlanTrace::Add(std::istringstream& words) {
  switch (scheduler_.Add(ReadRequest(words))) {
    case AddResult::kOk:
      return "";
    case AddResult::kQueueFull:
      return "queue full";
    case AddResult::kNeverFits:
      return "never fits";
  }
  return "?";
}

std::string PlanTrace::Cancel(std::istringstream& words, FinishReason reason) {
  SequenceId id = 0;
  words >> id;
  if (!scheduler_.Cancel(id, reason)) return "unknown";
  const std::string events = Events();
  return events.empty() ? "marked" : events;
}

std::string PlanTrace::Plan() {
  plan_ = scheduler_.Plan();
  for (const Admission& admission : scheduler_.admissions()) {
    slot_owner_[admission.slot] = admission.id;
  }
  return plan_.empty() ? "-" : ToString(plan_, scheduler_.admissions(), slot_owner_);
}

std::string PlanTrace::Commit(std::istringstream& words) {
  std::vector<int32_t> token_ids;
  for (int32_t i = 0; i < plan_.logits(); ++i) {
    const int32_t target = plan_.logit_targets[i];
    if (IsDrafted(plan_, i) && plan_.token_ids[plan_.logit_rows[i]] != token_ids.back()) {
      token_ids.push_back(kNotSampled);
      continue;
    }
    int32_t token = 7;
    if (target < 0) words >> token;
    if (words.fail()) token = 7;
    token_ids.push_back(target < 0 ? token : target);
  }
  scheduler_.Commit(plan_, token_ids);
  return Events();
}

std::string PlanTrace::Events() { return ToString(scheduler_.TakeEvents()); }

std::string PlanTrace::Stats() const {
  const SchedulerStats stats = scheduler_.stats();
  std::ostringstream out;
  out << "waiting " << stats.waiting << "/" << stats.waiting_tokens << " running " << stats.running
      << " used " << stats.blocks_used << " cached " << stats.blocks_cached << " hits "
      << stats.prefix_hits << "/" << stats.prefix_queries << " preempted " << stats.preemptions;
  return out.str();
}

std::string PlanTrace::Drafts() const {
  const SchedulerStats stats = scheduler_.stats();
  std::ostringstream out;
  out << stats.accepted_tokens << "/" << stats.draft_tokens << " in " << stats.drafts << " used "
      << stats.blocks_used;
  return out.str();
}

SchedulerConfig SmallConfig() {
  SchedulerConfig config;
  config.max_num_seqs = 4;
  config.max_num_batched_tokens = 16;
  config.max_logits = 16;
  config.max_model_len = 64;
  config.num_blocks = 32;
  config.block_tokens = 4;
  return config;
}

}  // namespace pregate
