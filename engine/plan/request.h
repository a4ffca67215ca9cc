// Request: what one sequence was asked to do, in token ids. It never changes.
#ifndef PREGATE_ENGINE_PLAN_REQUEST_H_
#define PREGATE_ENGINE_PLAN_REQUEST_H_

#include <cstdint>
#include <vector>

namespace pregate {

// Names a sequence for its whole life; never reused, never a client's word.
using SequenceId = uint64_t;

enum class FinishReason : uint8_t {
  kNone,       // still running
  kStop,       // a stop id was sampled
  kLength,     // max_tokens or the context is full
  kCancelled,  // the client left
  kDeadline,   // its deadline passed
  kError,      // the step that carried it failed
};

struct Request {
  SequenceId id = 0;
  std::vector<int32_t> prompt;    // at least one id, each below the vocabulary size
  int32_t max_tokens = 0;         // at least 1
  int32_t min_tokens = 0;         // stop ids are ignored before this many tokens
  std::vector<int32_t> stop_ids;  // sorted; includes the model's own unless `ignore_eos`
  int32_t priority = 0;           // lower goes first
  uint64_t cache_salt = 0;        // prefixes are shared only between equal salts (tenant)
  bool prompt_logits = false;     // score the prompt: no prefix-cache hits, every row a logit row

  friend bool operator==(const Request&, const Request&) = default;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_REQUEST_H_
