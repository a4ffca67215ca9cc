// From a model path and options to everything that the step loop drives.
#ifndef PREGATE_ENGINE_ENGINE_SETUP_H_
#define PREGATE_ENGINE_ENGINE_SETUP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model/expert_router.h"
#include "engine/model/kv_storage.h"
#include "engine/model/model_file.h"
#include "engine/model/sampler.h"
#include "engine/model/transformer.h"
#include "engine/plan/scheduler.h"
#include "engine/trace_file.h"
#include "kernels/communicator.h"
#include "kernels/device.h"

namespace pregate {

// In the order in which they must be destroyed last to first: weights live in the mapping of
// `file`, buffers on `device`.
struct EngineSetup {
  std::vector<std::unique_ptr<Communicator>> ends;  // of the ranks, where there are several
  std::unique_ptr<Device> device;
  std::unique_ptr<ModelFile> file;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Transformer> transformer;
  std::unique_ptr<ExpertRouter>
      router;  // null: the model has none; its embedding is the transformer's
  std::unique_ptr<KvStorage> kv;
  std::unique_ptr<Sampler> sampler;
  std::unique_ptr<TraceFile> trace;  // null: not recorded
  SchedulerConfig scheduler_config;
  ModelInfo info;
  // Bounds of the queue that Submit keeps.
  int64_t max_queued_requests = 0;
  int64_t max_queued_tokens = 0;
};

// Opens the model, with what options.read_me lays over it.
absl::StatusOr<std::unique_ptr<ModelFile>> OpenServedModel(const std::string& model_path,
                                                           const EngineOptions& options);

// INVALID_ARGUMENT "<flag>: <rule>; got <value>" for an option out of range.
absl::Status ValidateOptions(const EngineOptions& options, const ModelConfig& config);

// EngineOptions::scheduling_policy; INVALID_ARGUMENT as above for a word that names none.
absl::StatusOr<SchedulingPolicy> ParsePolicy(const std::string& name);

// INVALID_ARGUMENT for options out of range, UNIMPLEMENTED for a model that does not generate,
// RESOURCE_EXHAUSTED when the KV cache has no room, and whatever ModelFile::Open, ChooseBackend,
// Tokenizer::Create and Transformer::Create say.
absl::StatusOr<EngineSetup> SetUpEngine(const std::string& model_path, const EngineOptions& options,
                                        const std::function<void(double)>& progress);
// The same for a model that is already open.
absl::StatusOr<EngineSetup> SetUpEngine(std::unique_ptr<ModelFile> file,
                                        const EngineOptions& options,
                                        const std::function<void(double)>& progress);

// Starts the step loop.
std::unique_ptr<Engine> MakeEngine(EngineSetup setup);

}  // namespace pregate

#endif  // PREGATE_ENGINE_ENGINE_SETUP_H_
