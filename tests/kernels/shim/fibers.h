// The threads of one block as fibers.
#ifndef PREGATE_TESTS_KERNELS_SHIM_FIBERS_H_
#define PREGATE_TESTS_KERNELS_SHIM_FIBERS_H_

#include <boost/context/fiber.hpp>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
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

  int lane() const { return current_->lane; }
  struct Operands {
    float* d;
    const uint32_t* a;
    const uint32_t* b;
  };
  struct Warp {
    int lanes = 0;    // of its threads
    int arrived = 0;  // at `name`
    const char* name = nullptr;
    // What the lanes of one exchange take, and what those of the next have given so far: in turns.
    uint64_t values[2][kWarp] = {};
    int given = 0;
    Operands operands[kWarp] = {};
  };
  Warp& warp() { return *current_->warp; }

  // A copy that has been asked for and has not arrived.
  struct Copy {
    void* to;
    const void* from;
    int valid;
  };
  std::vector<Copy>& open_copies() { return current_->open_copies; }
  std::deque<std::vector<Copy>>& copy_groups() { return current_->copy_groups; }

 private:
  // A stack and where its code goes on: a thread's, or the one of the host that runs the block.
  struct Place {
    boost::context::fiber context;
    const void* stack = nullptr;
    size_t stack_bytes = 0;
    void* fake_stack = nullptr;  // AddressSanitizer's
  };
  // A thread of every block that has as many: what it runs changes, its stack stays.
  struct Fiber : Place {
    int index = 0, lane = 0;
    Warp* warp = nullptr;
    dim3 position;  // threadIdx
    bool done = false;
    const char* waits_for = nullptr;
    std::unique_ptr<char[]> memory;  // of the stack
    std::vector<Copy> open_copies;
    std::deque<std::vector<Copy>> copy_groups;
  };

  Fiber& AddFiber();
  void MakeReady(int thread) { ready_.push_back(thread); }
  // To the next thread that is ready, or back to Run when all have ended.
  void GoOn();
  void Switch(Place& to);
  void Arrive(boost::context::fiber&& from);
  void ReleaseBarrierIfAllArrived();
  [[noreturn]] void ReportDeadlock() const;

  std::deque<Fiber> fibers_;  // as many as the largest block had
  std::vector<Warp> warps_;
  std::deque<int> ready_;
  int count_ = 0, live_ = 0, at_barrier_ = 0;
  bool reversed_ = false;
  absl::FunctionRef<void()>* thread_ = nullptr;
  Fiber* current_ = nullptr;
  Place host_;
  Place* here_ = &host_;   // which of them runs
  Place* left_ = nullptr;  // for the one that runs now
};

}  // namespace pregate

#endif  // PREGATE_TESTS_KERNELS_SHIM_FIBERS_H_
