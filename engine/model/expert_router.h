// ExpertRouter: the network of a Read-ME model that runs ahead of it and names the expert of each
// token, in all layers at once (arXiv 2410.19123, section 3.2).
#ifndef PREGATE_ENGINE_MODEL_EXPERT_ROUTER_H_
#define PREGATE_ENGINE_MODEL_EXPERT_ROUTER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/kv_storage.h"
#include "engine/model/model_file.h"
#include "engine/plan/batch_plan.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

// The state-dict prefix of its tensors.
inline constexpr char kRouterPrefix[] = "cluster_predictor.";

class ExpertRouter {
 public:
  // `embedding`: the model's own table, which a router with a frozen embedding shares; it must
  // outlive the router, as must the configuration of `file`, which is that of a Read-ME model.
  // Plans have at most `max_rows` rows. Errors as Transformer::Create.
  static absl::StatusOr<std::unique_ptr<ExpertRouter>> Create(const ModelFile& file, Device* device,
                                                              const Kernels* kernels,
                                                              const PackedWeight& embedding,
                                                              int32_t max_rows);
  virtual ~ExpertRouter() = default;

  // The expert of every row of the plan, [rows], and the router's keys and values of these rows in
  // `kv`. A token's expert depends on the tokens up to it alone: not on the batch, nor on how its
  // sequence was cut into plans. Everything is computed in float32.
  virtual void Route(const BatchPlan& plan, const KvStorage& kv,
                     std::vector<int32_t>* expert_ids) = 0;

  // The logits of the latest plan, [rows, experts] kF32, valid until the next.
  virtual ConstTensor logits() const = 0;

  virtual int64_t weight_bytes() const = 0;
  virtual int64_t num_parameters() const = 0;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_EXPERT_ROUTER_H_
