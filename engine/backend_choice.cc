#include "engine/backend_choice.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "engine/model/read_me_weights.h"
#include "engine/model/weight_loader.h"
#include "engine/quantization.h"

namespace pregate {
namespace {

// For kernels' scratch, the arrays of a step and a KV cache that is worth having.
constexpr int64_t kSpareBytes = int64_t{1} << 30;

// Models that no GPU serves.
absl::Status CheckModel(const ModelConfig& config) {
  if (config.encoder.present) {
    return absl::UnimplementedError("device: encoders run on the CPU alone");
  }
  return absl::OkStatus();
}

// Whether a tensor belongs to experts that may wait elsewhere.
bool ComesAndGoes(const TensorInfo& tensor, const ModelConfig& config,
                  const EngineOptions& options) {
  if (config.read_me.num_experts == 0 || options.expert_cache_memory == 0) return false;
  return ReadMeFfns::Takes(tensor.name);
}

// The first entry that the table lacks for a decoder; null: it has all.
const char* MissingEntry(const Kernels& k, const Device& device, const ModelConfig& config) {
  const struct {
    bool present;
    const char* name;
  } entries[] = {{k.embed != nullptr, "embed"},
                 {k.rms_norm != nullptr, "rms_norm"},
                 {k.packed_bytes != nullptr, "packed_bytes"},
                 {k.pack != nullptr, "pack"},
                 {k.quantize_rows != nullptr, "quantize_rows"},
                 {k.matmul != nullptr, "matmul"},
                 {k.rope_table != nullptr, "rope_table"},
                 {k.rope != nullptr, "rope"},
                 {k.kv_append != nullptr, "kv_append"},
                 {k.attention != nullptr, "attention"},
                 {k.gated_activation != nullptr, "gated_activation"},
                 {k.add != nullptr, "add"},
                 {k.gather_rows != nullptr, "gather_rows"},
                 {k.likeliest != nullptr, "likeliest"},
                 {k.gather_logits != nullptr, "gather_logits"},
                 {k.edit_logits != nullptr, "edit_logits"},
                 {k.draw_tokens != nullptr, "draw_tokens"}};
  for (const auto& [present, name] : entries) {
    if (!present) return name;
  }
  if (config.mixture.num_experts.empty() && config.read_me.num_experts == 0) return nullptr;
  if (k.top_k_gate == nullptr) return "top_k_gate";
  if (k.combine_rows == nullptr) return "combine_rows";
  // What a gate chooses is sorted where it can be read.
  if (config.mixture.num_experts.empty() || device.host_memory()) return nullptr;
  if (k.sort_by_expert == nullptr) return "sort_by_expert";
  return k.grouped_matmul == nullptr ? "grouped_matmul" : nullptr;
}

// Whether the table multiplies by every matrix of the file, and the bytes that all tensors take on
// the device.
absl::StatusOr<int64_t> CountWeights(const ModelFile& file, const Kernels& kernels,
                                     const EngineOptions& options) {
  const ModelConfig& config = file.config();
  const absl::StatusOr<std::optional<DType>> quantization = ParseQuantization(options.quantization);
  if (!quantization.ok()) return quantization.status();
  int64_t bytes = config.read_me.num_experts > 0 ? options.expert_cache_memory : 0;
  for (const TensorInfo& tensor : file.tensors()) {
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) elements *= size;
    const int64_t cols = tensor.shape.back(), rows = cols == 0 ? 0 : elements / cols;
    if (rows <= 1) {  // a vector, in floats
      bytes += elements * static_cast<int64_t>(sizeof(float));
      continue;
    }
    // A gate stays as it is, and is small.
    const DType dtype = IsPlain(tensor.dtype) ? quantization->value_or(tensor.dtype) : tensor.dtype;
    const int64_t packed = kernels.packed_bytes(dtype, rows, cols);
    if (packed == 0) {
      return absl::UnimplementedError(absl::StrCat(
          "device: the ", std::string(kernels.name), " kernels have none for ",
          std::string(GetDTypeInfo(tensor.dtype).name), ", the type of ", tensor.name));
    }
    if (!ComesAndGoes(tensor, config, options)) bytes += packed;
  }
  return bytes;
}

// About what a forward pass takes besides (engine/model/activations.cc has the exact list).
int64_t EstimateActivations(const ModelConfig& config, const EngineOptions& options) {
  const int64_t query = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv = int64_t{config.num_kv_heads} * config.head_dim;
  const MixtureConfig& mixture = config.mixture;
  const int64_t chosen = mixture.num_experts.empty() ? 0 : mixture.gate.k;
  const int64_t neurons = std::max<int64_t>(
      config.ffn_size, chosen * mixture.expert_ffn_size + mixture.shared_ffn_size);
  const int64_t row = 8 * int64_t{config.hidden_size} + 3 * query + 2 * kv + 3 * neurons +
                      3 * (chosen + 1) * config.hidden_size;
  const int64_t logits = std::max<int64_t>(256, options.max_num_seqs);
  return static_cast<int64_t>(sizeof(float)) *
         (options.max_num_batched_tokens * row +
          logits * (int64_t{config.vocab_size} + config.hidden_size));
}

std::string Gigabytes(int64_t bytes) { return absl::StrFormat("%.1f GB", bytes / 1e9); }

// Says "needs ..., of ... are free" if the backend can serve the model.
absl::StatusOr<std::string> CheckBackend(const ModelFile& file, const EngineOptions& options,
                                         const Backend& backend) {
  const char* const missing = MissingEntry(*backend.kernels, *backend.device, file.config());
  if (missing != nullptr) {
    return absl::UnimplementedError(absl::StrCat("device: the ", std::string(backend.kernels->name),
                                                 " kernels lack ", missing));
  }
  const absl::StatusOr<int64_t> weights = CountWeights(file, *backend.kernels, options);
  if (!weights.ok()) return weights.status();
  int64_t free = 0, total = 0;
  backend.memory(&free, &total);
  const int64_t need = *weights + EstimateActivations(file.config(), options) + kSpareBytes +
                       std::max<int64_t>(0, options.kv_cache_memory);
  if (need > free) {
    return absl::ResourceExhaustedError(
        absl::StrCat("device: the model needs ", Gigabytes(need), " (weights ", Gigabytes(*weights),
                     "); the GPU has ", Gigabytes(free), " of ", Gigabytes(total), " free"));
  }
  return absl::StrCat("the model needs ", Gigabytes(need), ", ", Gigabytes(free), " are free");
}

// Threads of the host for one device: ranks share them.
int RankThreads(const EngineOptions& options) {
  if (options.tensor_parallel_size == 1) return options.threads;
  const int all = options.threads > 0 ? options.threads : UsableCpus();
  return std::max(1, all / options.tensor_parallel_size);
}

// Connects the ranks, where there are several.
absl::Status Connect(const EngineOptions& options, ChosenBackend& chosen) {
  const int32_t ranks = options.tensor_parallel_size;
  if (ranks == 1) return absl::OkStatus();
  absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> ends =
      ConnectRanks(chosen.backend, ranks);
  if (!ends.ok()) return ends.status();
  chosen.ends = *std::move(ends);
  std::string& description = chosen.backend.description;
  description = absl::StrCat(ranks, " ranks, each ", description);
  return absl::OkStatus();
}

absl::StatusOr<ChosenBackend> TakeCuda(const ModelFile& file, const EngineOptions& options,
                                       absl::StatusOr<Backend> (*open_cuda)(int)) {
  if (absl::Status status = CheckModel(file.config()); !status.ok()) return status;
  // Before CUDA is there: a kernel that is loaded on first use may wait for a rank's sum while it
  // keeps the other ranks from joining in.
  if (options.tensor_parallel_size > 1) setenv("CUDA_MODULE_LOADING", "EAGER", /*overwrite=*/0);
  absl::StatusOr<Backend> backend = open_cuda(RankThreads(options));
  if (!backend.ok()) return backend.status();
  const absl::StatusOr<std::string> room = CheckBackend(file, options, *backend);
  if (!room.ok()) return room.status();
  ChosenBackend chosen{
      .ends = {}, .backend = *std::move(backend), .why = absl::StrCat("GPU: ", *room)};
  if (absl::Status status = Connect(options, chosen); !status.ok()) return status;
  return chosen;
}

}  // namespace

absl::StatusOr<ChosenBackend> ChooseBackend(const ModelFile& file, const EngineOptions& options,
                                            absl::StatusOr<Backend> (*open_cuda)(int)) {
  if (file.config().encoder.present && options.tensor_parallel_size > 1) {
    return absl::UnimplementedError("tensor-parallel-size: encoders run on one device");
  }
  std::string why;
  if (options.device != "cpu") {
    absl::StatusOr<ChosenBackend> cuda = TakeCuda(file, options, open_cuda);
    if (options.device == "cuda") {
      if (cuda.ok()) cuda->why.clear();
      return cuda;
    }
    if (cuda.ok()) return cuda;
    why = absl::StrCat("CPU: ", absl::StripPrefix(cuda.status().message(), "device: "));
  }
  absl::StatusOr<Backend> cpu = OpenCpu(RankThreads(options));
  if (!cpu.ok()) return cpu.status();
  ChosenBackend chosen{.ends = {}, .backend = *std::move(cpu), .why = std::move(why)};
  if (absl::Status status = Connect(options, chosen); !status.ok()) return status;
  return chosen;
}

absl::StatusOr<Backend> OpenPeer(const ModelFile& file, const EngineOptions& options,
                                 bool host_memory) {
  if (host_memory) return OpenCpu(RankThreads(options));
  absl::StatusOr<Backend> backend = OpenCuda(RankThreads(options), file.config().shard.rank);
  if (!backend.ok()) return backend;
  const absl::StatusOr<std::string> room = CheckBackend(file, options, *backend);
  if (!room.ok()) return room.status();
  return backend;
}

int64_t DefaultKvCacheMemory(const Backend& backend, int32_t ranks) {
  if (backend.memory == nullptr) return UsableMemory() / 4 / ranks;
  int64_t free = 0, total = 0;
  backend.memory(&free, &total);
  return free / 10 * 9;
}

}  // namespace pregate
