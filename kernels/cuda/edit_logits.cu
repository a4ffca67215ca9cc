// Few logits of many: reading and changing them where they are.
#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu.h"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 128;

__device__ __forceinline__ int64_t Item() { return int64_t{blockIdx.x} * kThreads + threadIdx.x; }

__global__ void GatherKernel(ConstTensor logits, const LogitPlace* places, int64_t count,
                             float* values) {
  const int64_t i = Item();
  if (i < count) values[i] = logits.Row<float>(places[i].row)[places[i].id];
}

// EditedLogit, operation by operation.
__global__ void EditKernel(Tensor logits, const LogitEdit* edits, int64_t count) {
  const int64_t i = Item();
  if (i >= count) return;
  const LogitEdit edit = edits[i];
  float* const place = logits.Row<float>(edit.place.row) + edit.place.id;
  float logit = __fadd_rn(*place, edit.bias);
  logit = logit > 0 ? __fdiv_rn(logit, edit.repetition) : __fmul_rn(logit, edit.repetition);
  *place = __fadd_rn(logit, -edit.penalty);
}

// A list in scratch.
template <typename T>
const T* Upload(Device& device, absl::Span<const T> list) {
  const size_t bytes = list.size() * sizeof(T);
  void* const scratch = AsGpu(device).Scratch(bytes);
  device.CopyToDevice(scratch, list.data(), bytes);
  return static_cast<const T*>(scratch);
}

Grid GridOf(size_t items) { return {{Blocks(static_cast<int64_t>(items), kThreads)}, {kThreads}}; }

}  // namespace

void GatherLogits(Device& device, ConstTensor logits, absl::Span<const LogitPlace> places,
                  float* values) {
  if (places.empty()) return;
  Launch(device, GatherKernel, GridOf(places.size()), logits, Upload(device, places),
         static_cast<int64_t>(places.size()), values);
}

void EditLogits(Device& device, Tensor logits, absl::Span<const LogitEdit> edits) {
  if (edits.empty()) return;
  Launch(device, EditKernel, GridOf(edits.size()), logits, Upload(device, edits),
         static_cast<int64_t>(edits.size()));
}

}  // namespace pregate::cuda
