// Which device serves a model.
#ifndef PREGATE_ENGINE_BACKEND_CHOICE_H_
#define PREGATE_ENGINE_BACKEND_CHOICE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model/model_file.h"
#include "kernels/backend.h"

namespace pregate {

struct ChosenBackend {
  // What connects the ranks, where there are several. Before the device: it must outlive that.
  std::vector<std::unique_ptr<Communicator>> ends;
  Backend backend;  // of rank 0
  std::string why;  // this one, for people; empty where the option names it
};

// The device that options.device names: "cpu", "cuda", or "auto", the GPU where there is one that
// serves the model and has room for it, else the CPU. Of "cuda": UNAVAILABLE, why there is no GPU;
// UNIMPLEMENTED, that the model, or an option, is for the CPU alone; RESOURCE_EXHAUSTED, with the
// numbers, that there is no room. With options.tensor_parallel_size `file` is rank 0's share, and
// the errors of ConnectRanks count as those. `open_cuda` is another's in tests.
absl::StatusOr<ChosenBackend> ChooseBackend(const ModelFile& file, const EngineOptions& options,
                                            absl::StatusOr<Backend> (*open_cuda)(int) = OpenCuda);

// The device of another rank, whose share `file` is: like that of rank 0, for the calling thread.
absl::StatusOr<Backend> OpenPeer(const ModelFile& file, const EngineOptions& options,
                                 bool host_memory);

// Bytes of a KV cache whose size nobody has named, where weights and activations are there already.
// Of the host's memory a quarter of what this process may use: pages are touched when blocks are
// first used, so an idle server does not hold it. Of a GPU's nine tenths of what is free: nobody
// else has use for it, but kernels need some scratch.
int64_t DefaultKvCacheMemory(const Backend& backend, int32_t ranks = 1);

}  // namespace pregate

#endif  // PREGATE_ENGINE_BACKEND_CHOICE_H_
