#include "tests/plan/plan_text.h"

#include <sstream>

namespace pregate {
namespace {

const char* Name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "none";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kDeadline:
      return "deadline";
    case FinishReason::kError:
      return "error";
  }
  return "?";
}

}  // namespace

std::string ToString(const Request& request) {
  std::ostringstream out;
  out << request.id << ":";
  for (int32_t token : request.prompt) out << " " << token;
  out << " max " << request.max_tokens;
  if (request.min_tokens > 0) out << " min " << request.min_tokens;
  if (!request.stop_ids.empty()) out << " stop";
  for (int32_t token : request.stop_ids) out << " " << token;
  if (request.priority != 0) out << " priority " << request.priority;
  if (request.cache_salt != 0) out << " salt " << request.cache_salt;
  if (request.prompt_logits) out << " score";
  return out.str();
}

std::string ToString(const BatchPlan& plan, const std::vector<Admission>& admissions,
                     const std::vector<SequenceId>& slot_owner) {
  std::ostringstream out;
  int32_t logit = 0;
  for (int32_t s = 0; s < plan.sequences(); ++s) {
    const int32_t slot = plan.sequence_slots[s];
    if (s > 0) out << " ";
    int32_t cached = 0;
    for (const Admission& admission : admissions) {
      if (admission.slot != slot) continue;
      out << (admission.resumed ? "^" : "+");
      cached = admission.cached_tokens;
    }
    const int32_t first = plan.row_start[s], last = plan.row_start[s + 1] - 1;
    out << slot_owner[slot];
    if (cached > 0) out << "(" << cached << ")";
    out << ":" << plan.positions[first];
    if (last > first) out << "-" << plan.positions[last];
    int32_t scored = 0;
    bool sampled = false;
    for (; logit < plan.logits() && plan.logit_rows[logit] <= last; ++logit) {
      if (plan.logit_targets[logit] < 0) {
        sampled = true;
      } else {
        ++scored;
      }
    }
    if (sampled) out << "*";
    if (scored > 0) out << "?" << scored;
  }
  return out.str();
}

bool IsDrafted(const BatchPlan& plan, int32_t logit) {
  return logit > 0 && plan.logit_targets[logit] < 0 && plan.logit_targets[logit - 1] < 0 &&
         plan.logit_slots[logit] == plan.logit_slots[logit - 1];
}

std::string ToString(const std::vector<SequenceEvent>& events) {
  std::ostringstream out;
  for (const SequenceEvent& event : events) {
    if (out.tellp() > 0) out << " ";
    out << event.id;
    if (event.token_id >= 0) out << "=" << event.token_id;
    if (event.finish != FinishReason::kNone) out << "." << Name(event.finish);
  }
  return out.str();
}

}  // namespace pregate
