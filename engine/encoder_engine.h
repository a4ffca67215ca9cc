// The engine of models that read texts whole and generate nothing: encoders of the BERT kind.
#ifndef PREGATE_ENGINE_ENCODER_ENGINE_H_
#define PREGATE_ENGINE_ENCODER_ENGINE_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model/model_file.h"

namespace pregate {

// Loads the encoder in `file` and starts its thread. Errors as Engine::Create.
absl::StatusOr<std::unique_ptr<Engine>> MakeEncoderEngine(
    std::unique_ptr<ModelFile> file, const EngineOptions& options,
    const std::function<void(double)>& progress);

}  // namespace pregate

#endif  // PREGATE_ENGINE_ENCODER_ENGINE_H_
