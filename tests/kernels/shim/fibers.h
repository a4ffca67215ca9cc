// The threads of one block as fibers.
#ifndef PREGATE_TESTS_KERNELS_SHIM_FIBERS_H_
#define PREGATE_TESTS_KERNELS_SHIM_FIBERS_H_

#include <boost/context/fiber.hpp>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "kernels/cuda/gpu.h"

namespace pregate {

// One block at a time; the object and its stacks serve all blocks.
class FiberBlock {
 public:
  // Runs `thread` once for each of `threads` threads. Ends the process, naming what each waits
  // for, when none can go on.
  void Run(const dim3& threads, bool reversed, absl::FunctionRef<void()> thread);

  // --- Called by the threads. ---

  void Barrier();
  // Every lane of the warp calls this; the last to come runs `action` before all go on.
  void Collective(const char* name, unsigned mask, absl::FunctionRef<void()> action);

  int lane() const { return current_->index % kWarp; }
  struct Operands {
    float* d;
    const uint32_t* a;
    const uint32_t* b;
  };
  struct Warp {
    int lanes = 0;    // of its threads
    int arrived = 0;  // at `name`
    const char* name = nullptr;
    std::vector<int> waiting;  // thread indices
    uint64_t given[kWarp] = {}, taken[kWarp] = {};
    Operands operands[kWarp] = {};
  };
  Warp& warp() { return warps_[static_cast<size_t>(current_->index / kWarp)]; }

  // A copy that has been asked for and has not arrived.
  struct Copy {
    void* to;
    const void* from;
    int valid;
  };
  std::vector<Copy>& open_copies() { return current_->open_copies; }
  std::deque<std::vector<Copy>>& copy_groups() { return current_->copy_groups; }

 private:
  struct Fiber {
    boost::context::fiber context, caller;
    int index = 0;
    dim3 position;  // threadIdx
    bool done = false;
    const char* waits_for = nullptr;
    char* stack = nullptr;
    void* fake_stack = nullptr;  // AddressSanitizer's
    std::vector<Copy> open_copies;
    std::deque<std::vector<Copy>> copy_groups;
  };

  void Start(Fiber& fiber, absl::FunctionRef<void()> thread);
  void Resume(Fiber& fiber);
  void Yield();
  void ReleaseBarrierIfAllArrived();
  void MakeReady(std::vector<int>& threads);
  [[noreturn]] void ReportDeadlock() const;

  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::vector<std::unique_ptr<char[]>> stacks_;
  std::deque<int> ready_;
  std::vector<int> at_barrier_;
  int live_ = 0;
  bool reversed_ = false;
  Fiber* current_ = nullptr;
  void* caller_fake_stack_ = nullptr;
  const void* caller_stack_ = nullptr;
  size_t caller_stack_bytes_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_TESTS_KERNELS_SHIM_FIBERS_H_
