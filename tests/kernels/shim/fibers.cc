#include "tests/kernels/shim/fibers.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#ifdef PREGATE_SHIM_ADDRESS_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif

namespace pregate {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
// Stacks begin at different offsets within a page and within what a cache's sets cover, since all
// threads of a block are at the same depth: else they, and the sanitizer's notes about them, would
// drive each other out of the cache at every switch.
constexpr size_t kStackShift = 9 * 64, kStackShifts = 128;

// AddressSanitizer must know on which stack the code runs.
void StartSwitch([[maybe_unused]] void** fake_stack, [[maybe_unused]] const void* stack,
                 [[maybe_unused]] size_t bytes) {
#ifdef PREGATE_SHIM_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(fake_stack, stack, bytes);
#endif
}
void FinishSwitch([[maybe_unused]] void* fake_stack, [[maybe_unused]] const void** from,
                  [[maybe_unused]] size_t* bytes) {
#ifdef PREGATE_SHIM_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(fake_stack, from, bytes);
#endif
}

// Gives a fiber a stack that outlives it.
struct GivenStack {
  char* memory;
  boost::context::stack_context allocate() const {
    boost::context::stack_context context;
    context.size = kStackBytes;
    context.sp = memory + kStackBytes;
    return context;
  }
  void deallocate(boost::context::stack_context&) const {}
};

}  // namespace

void FiberBlock::Run(const dim3& threads, bool reversed, absl::FunctionRef<void()> thread) {
  count_ = live_ = static_cast<int>(threads.x * threads.y * threads.z);
  reversed_ = reversed;
  thread_ = &thread;
  while (static_cast<int>(fibers_.size()) < count_) AddFiber();
  warps_.assign(static_cast<size_t>((count_ + kWarp - 1) / kWarp), {});
  for (int k = 0; k < count_; ++k) {
    const int i = reversed ? count_ - 1 - k : k;
    Fiber& fiber = fibers_[static_cast<size_t>(i)];
    const auto index = static_cast<unsigned>(i);
    fiber.position =
        dim3(index % threads.x, index / threads.x % threads.y, index / threads.x / threads.y);
    fiber.done = false;
    fiber.warp = &warps_[static_cast<size_t>(i / kWarp)];
    ++fiber.warp->lanes;
    MakeReady(i);
  }
  GoOn();
}

// Its context begins with the first thread that it runs and never ends: then comes the next
// block's.
FiberBlock::Fiber& FiberBlock::AddFiber() {
  Fiber& fiber = fibers_.emplace_back();
  fiber.index = static_cast<int>(fibers_.size()) - 1;
  fiber.lane = fiber.index % kWarp;
  fiber.memory =
      std::make_unique_for_overwrite<char[]>(kStackBytes + kStackShift * (kStackShifts - 1));
  char* const stack =
      fiber.memory.get() + kStackShift * (static_cast<size_t>(fiber.index) % kStackShifts);
  fiber.stack = stack;
  fiber.stack_bytes = kStackBytes;
  fiber.context =
      boost::context::fiber(std::allocator_arg, GivenStack{stack},
                            [this, &fiber](boost::context::fiber&& from) -> boost::context::fiber {
                              Arrive(std::move(from));
                              for (;;) {
                                (*thread_)();
                                fiber.open_copies.clear();
                                fiber.copy_groups.clear();
                                fiber.done = true;
                                --live_;
                                ReleaseBarrierIfAllArrived();
                                GoOn();
                              }
                            });
  return fiber;
}

void FiberBlock::GoOn() {
  if (live_ == 0) return Switch(host_);
  if (ready_.empty()) ReportDeadlock();
  Fiber& next = fibers_[static_cast<size_t>(ready_.front())];
  ready_.pop_front();
  current_ = &next;
  next.waits_for = nullptr;
  threadIdx = next.position;
  if (&next != here_) Switch(next);
}

void FiberBlock::Switch(Place& to) {
  left_ = here_;
  here_ = &to;
  StartSwitch(&left_->fake_stack, to.stack, to.stack_bytes);
  Arrive(std::move(to.context).resume());
}

// `from` is where the place that was left goes on.
void FiberBlock::Arrive(boost::context::fiber&& from) {
  FinishSwitch(here_->fake_stack, &left_->stack, &left_->stack_bytes);
  left_->context = std::move(from);
}

// Threads that have ended are not waited for, as on a GPU.
void FiberBlock::ReleaseBarrierIfAllArrived() {
  if (at_barrier_ == 0 || at_barrier_ < live_) return;
  at_barrier_ = 0;
  for (int k = 0; k < count_; ++k) {
    const int i = reversed_ ? count_ - 1 - k : k;
    if (!fibers_[static_cast<size_t>(i)].done) MakeReady(i);
  }
}

void FiberBlock::Barrier() {
  current_->waits_for = "__syncthreads";
  ++at_barrier_;
  ReleaseBarrierIfAllArrived();
  GoOn();
}

void FiberBlock::Collective(const char* name, unsigned mask, absl::FunctionRef<void()> action) {
  Warp& warp = this->warp();
  if (mask != kAllLanes || warp.lanes != kWarp) {
    std::fprintf(stderr, "shim: %s of some lanes of a warp\n", name);
    std::abort();
  }
  if (warp.arrived > 0 && warp.name != name && std::strcmp(warp.name, name) != 0) {
    std::fprintf(stderr, "shim: lanes of a warp meet at %s and %s\n", warp.name, name);
    std::abort();
  }
  warp.name = name;
  if (++warp.arrived < kWarp) {
    current_->waits_for = name;
    GoOn();
    return;
  }
  warp.arrived = 0;
  action();
  const int first = current_->index - current_->lane;
  for (int k = 0; k < kWarp; ++k) {
    const int i = first + (reversed_ ? kWarp - 1 - k : k);
    if (i != current_->index) MakeReady(i);
  }
}

void FiberBlock::ReportDeadlock() const {
  std::fprintf(stderr, "shim: no thread of the block can go on\n");
  for (int i = 0; i < count_; ++i) {
    const Fiber& fiber = fibers_[static_cast<size_t>(i)];
    std::fprintf(stderr, "  thread %d: %s\n", fiber.index,
                 fiber.done ? "has ended" : fiber.waits_for);
  }
  std::abort();
}

}  // namespace pregate
