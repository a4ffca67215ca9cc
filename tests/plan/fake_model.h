// FakeModel: a model whose keys and values are names of what real ones would be made of. A slot of
// its KV memory holds the token, its position and a hash of everything before it, so whoever reads
// a slot sees whether it holds the prefix it should; a row's successor is a function of the request
// and of what the row finds in memory, as it is in a real model.
#ifndef PREGATE_TESTS_PLAN_FAKE_MODEL_H_
#define PREGATE_TESTS_PLAN_FAKE_MODEL_H_

#include <cstdint>
#include <vector>

#include "engine/plan/batch_plan.h"
#include "engine/plan/request.h"

namespace pregate {

// What stands in for the key and value of one position.
struct KvEntry {
  int32_t token = -1;
  int32_t position = -1;
  uint64_t prefix = 0;  // of all tokens up to this one, and their salt

  friend bool operator==(const KvEntry&, const KvEntry&) = default;
};

uint64_t EmptyPrefix(uint64_t salt);
uint64_t ExtendPrefix(uint64_t prefix, int32_t token);

// What `id` samples after a prefix. Requests differ, as temperatures and seeds would make them.
int32_t NextToken(SequenceId id, uint64_t prefix, int32_t vocabulary);

// The answer to a request that has the machine for itself.
struct SoloAnswer {
  std::vector<int32_t> tokens;
  FinishReason finish = FinishReason::kNone;
};
SoloAnswer AnswerAlone(const Request& request, int32_t max_model_len, int32_t vocabulary);

// The expert of the token that ends `prefix`, which is often that of the token before (-1: none).
int32_t ExpertOf(uint64_t prefix, int32_t expert_before, int32_t num_experts);

// What stands in for the router's key and value of one position.
struct RouterEntry {
  uint64_t prefix = 0;
  int32_t expert = -1;

  friend bool operator==(const RouterEntry&, const RouterEntry&) = default;
};

class FakeModel {
 public:
  FakeModel(int32_t num_blocks, int32_t block_tokens, int32_t max_num_seqs, int32_t vocabulary,
            int32_t num_experts);

  // As the sampler binds a slot when its sequence is admitted.
  void Bind(int32_t slot, const Request& request);

  // Routes the rows of a plan: writes the router's memory, and gives the expert of each row.
  std::vector<int32_t> Route(const BatchPlan& plan);

  // Runs a plan: writes memory, and gives a token for each logit row: the target of a scored one,
  // kNotSampled behind a draft that was wrong.
  std::vector<int32_t> Run(const BatchPlan& plan);

  // Runs a plan halfway: what it should have written is garbage.
  void RunBadly(const BatchPlan& plan);

  const KvEntry& at(int32_t kv_slot) const { return memory_[kv_slot]; }
  const RouterEntry& router_at(int32_t kv_slot) const { return router_memory_[kv_slot]; }

 private:
  struct Binding {
    SequenceId id = 0;
    uint64_t salt = 0;
  };

  void WriteRows(const BatchPlan& plan, int32_t sequence);

  int32_t block_tokens_;
  int32_t vocabulary_;
  int32_t num_experts_;
  std::vector<KvEntry> memory_;             // [num_blocks * block_tokens]
  std::vector<RouterEntry> router_memory_;  // the same
  std::vector<Binding> bindings_;           // [max_num_seqs]
};

}  // namespace pregate

#endif  // PREGATE_TESTS_PLAN_FAKE_MODEL_H_
