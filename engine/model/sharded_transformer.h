// A transformer whose parts run on several ranks.
#ifndef PREGATE_ENGINE_MODEL_SHARDED_TRANSFORMER_H_
#define PREGATE_ENGINE_MODEL_SHARDED_TRANSFORMER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_share.h"
#include "engine/model/transformer.h"
#include "kernels/backend.h"
#include "kernels/communicator.h"

namespace pregate {

class ShardedTransformer : public Transformer {
 public:
  struct Ranks {
    std::vector<std::unique_ptr<ModelShare>> shares;       // [ranks]
    absl::Span<const std::unique_ptr<Communicator>> ends;  // [ranks]; they must outlive all devices
    // Rank 0 is the caller's: every call runs its part on this device, in the calling thread.
    Device* device = nullptr;
    const Kernels* kernels = nullptr;
    // Opens the device of any other rank, which has a thread of its own: called there.
    std::function<absl::StatusOr<Backend>(const ModelShare& share)> open;
    bool may_spin = false;  // see RanksMaySpin
  };
  // As Transformer::Create, of all ranks at once; options.communicator is filled in. Experts that
  // do not all fit are not for ranks: options.expert_memory.bytes must be 0.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(Ranks ranks, Options options);
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_SHARDED_TRANSFORMER_H_
