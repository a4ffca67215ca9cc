// Sequence: the progress of one request, in ids of tokens, blocks and experts. The frontiers that
// move: what is computed, what is routed (where there is a router), what is known.
#ifndef PREGATE_ENGINE_PLAN_SEQUENCE_H_
#define PREGATE_ENGINE_PLAN_SEQUENCE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/plan/draft_gate.h"
#include "engine/plan/prefix_cache.h"
#include "engine/plan/request.h"

namespace pregate {

struct Sequence {
  Request request;
  std::vector<int32_t> tokens;  // prompt, then answer
  int32_t computed = 0;         // positions whose keys and values are in the cache; < size()
  int32_t routed = 0;           // positions the router has seen; computed <= routed <= known()
  int32_t planned_rows = 0;     // computed by the step that is being planned or executed
  int32_t slot = -1;            // while running

  std::vector<int32_t> blocks;                  // KV blocks, in order of position
  int32_t shared_blocks = 0;                    // leading blocks known to the prefix cache
  PrefixId prefix = PrefixCache::kEmptyPrefix;  // what those hold; kNoPrefix: shares no more

  // Of each token, up to the most that was ever routed: preemption forgets `routed`, not these.
  std::vector<int32_t> experts;

  // Guesses of the tokens that follow, from a plan's opening to its commit, and where they come
  // from: the length of the match, and the first of them even where none is worth a row.
  std::vector<int32_t> drafts;
  int32_t match = 0;
  int32_t guess = -1;
  std::optional<DraftOdds> odds;

  int64_t arrival = 0;        // order of Add
  int64_t waiting_since = 0;  // number of the plan that gave it rows last, or before it came
  int64_t plans_waited = 0;   // plans that gave it no row, before that one
  int32_t preemptions = 0;
  int32_t held_back = 0;   // plans it was held back for a prefix that was being computed
  double served_at = 0;    // seconds of steps when it got rows last, or was taken up
  double first_token = 0;  // the same for the first token of its answer
  bool admitted = false;   // has been running at least once
  FinishReason ending = FinishReason::kNone;  // cancelled during a step: why

  int32_t size() const { return static_cast<int32_t>(tokens.size()); }
  int32_t drafted() const { return static_cast<int32_t>(drafts.size()); }
  int32_t known() const { return size() + drafted(); }
  int32_t token(int32_t position) const {
    return position < size() ? tokens[position] : drafts[position - size()];
  }
  int32_t prompt_size() const { return static_cast<int32_t>(request.prompt.size()); }
  int32_t generated() const { return size() - prompt_size(); }
  int32_t missing() const { return size() - computed; }
  int32_t unrouted() const { return known() - routed; }
  // Its answer goes on: all but the newest token is computed.
  bool decodes() const { return generated() > 0 && missing() == 1; }
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_SEQUENCE_H_
