// A model on one device or on several ranks.
#ifndef PREGATE_ENGINE_RANK_SETUP_H_
#define PREGATE_ENGINE_RANK_SETUP_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/backend_choice.h"
#include "engine/engine.h"
#include "engine/model/model_share.h"
#include "engine/model/transformer.h"

namespace pregate {

// INVALID_ARGUMENT, or UNIMPLEMENTED, for options about ranks that are out of range or do not go
// together.
absl::Status ValidateRanks(const EngineOptions& options);

// What each of options.tensor_parallel_size ranks has of the model; nothing where it is one. The
// errors of ModelShare::Create. `file` must outlive the shares.
absl::StatusOr<std::vector<std::unique_ptr<ModelShare>>> DealOut(const ModelFile& file,
                                                                 const EngineOptions& options);

// Loads the model on the chosen device, which is `device` now, or its shares on ranks of which that
// is the first; the errors of Transformer::Create and OpenPeer. chosen.ends must outlive both.
absl::StatusOr<std::unique_ptr<Transformer>> MakeTransformer(
    const ModelFile& file, std::vector<std::unique_ptr<ModelShare>> shares,
    const EngineOptions& options, absl::Span<const std::unique_ptr<Communicator>> ends,
    Device* device, const Kernels* kernels, const Transformer::Options& transformer_options);

}  // namespace pregate

#endif  // PREGATE_ENGINE_RANK_SETUP_H_
