// Expert units in three places: slots in a device's memory, the host's memory behind them, a disk
// behind that.
#ifndef PREGATE_ENGINE_MODEL_DEVICE_EXPERT_STORE_H_
#define PREGATE_ENGINE_MODEL_DEVICE_EXPERT_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/direct_file.h"
#include "engine/model/expert_store.h"
#include "kernels/device.h"

namespace pregate {

// Makes an empty file; asked where the host's memory does not hold all units.
using MakeFile = std::function<absl::StatusOr<std::unique_ptr<DirectFile>>()>;

// `piece_bytes` is [units][layers]; `device` must outlive the store. A slot holds any piece, so
// that a unit takes as much as if all its pieces were the largest. The errors of `make_file`;
// UNIMPLEMENTED: the device copies nothing beside its kernels; INVALID_ARGUMENT: memory for too
// little; RESOURCE_EXHAUSTED: there is not as much.
absl::StatusOr<std::unique_ptr<ExpertStore>> MakeDeviceExpertStore(
    const std::vector<std::vector<int64_t>>& piece_bytes, const ExpertMemory& memory,
    const MakeFile& make_file, Device* device);

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_DEVICE_EXPERT_STORE_H_
