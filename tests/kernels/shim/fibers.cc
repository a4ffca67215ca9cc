#include "tests/kernels/shim/fibers.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#ifdef PREGATE_SHIM_ADDRESS_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif

namespace pregate {
namespace {

constexpr size_t kStackBytes = 128 * 1024;

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
  const auto count = static_cast<int>(threads.x * threads.y * threads.z);
  reversed_ = reversed;
  live_ = count;
  fibers_.clear();
  fibers_.resize(static_cast<size_t>(count));
  warps_.assign(static_cast<size_t>((count + kWarp - 1) / kWarp), {});
  while (stacks_.size() < fibers_.size()) {
    stacks_.push_back(std::make_unique_for_overwrite<char[]>(kStackBytes));
  }
  std::vector<int> all;
  for (int i = 0; i < count; ++i) {
    Fiber& fiber = fibers_[static_cast<size_t>(i)];
    const auto index = static_cast<unsigned>(i);
    fiber.index = i;
    fiber.position =
        dim3(index % threads.x, index / threads.x % threads.y, index / threads.x / threads.y);
    fiber.stack = stacks_[static_cast<size_t>(i)].get();
    ++warps_[static_cast<size_t>(i / kWarp)].lanes;
    Start(fiber, thread);
    all.push_back(i);
  }
  MakeReady(all);
  while (live_ > 0) {
    if (ready_.empty()) ReportDeadlock();
    Fiber& next = fibers_[static_cast<size_t>(ready_.front())];
    ready_.pop_front();
    Resume(next);
  }
}

void FiberBlock::Start(Fiber& fiber, absl::FunctionRef<void()> thread) {
  fiber.context =
      boost::context::fiber(std::allocator_arg, GivenStack{fiber.stack},
                            [this, &fiber, thread](boost::context::fiber&& caller) {
                              FinishSwitch(nullptr, &caller_stack_, &caller_stack_bytes_);
                              fiber.caller = std::move(caller);
                              thread();
                              fiber.done = true;
                              --live_;
                              ReleaseBarrierIfAllArrived();
                              StartSwitch(nullptr, caller_stack_, caller_stack_bytes_);
                              return std::move(fiber.caller);
                            });
}

void FiberBlock::Resume(Fiber& fiber) {
  current_ = &fiber;
  fiber.waits_for = nullptr;
  threadIdx = fiber.position;
  StartSwitch(&caller_fake_stack_, fiber.stack, kStackBytes);
  fiber.context = std::move(fiber.context).resume();
  FinishSwitch(caller_fake_stack_, nullptr, nullptr);
}

void FiberBlock::Yield() {
  Fiber& fiber = *current_;
  StartSwitch(&fiber.fake_stack, caller_stack_, caller_stack_bytes_);
  fiber.caller = std::move(fiber.caller).resume();
  FinishSwitch(fiber.fake_stack, &caller_stack_, &caller_stack_bytes_);
}

void FiberBlock::MakeReady(std::vector<int>& threads) {
  const auto ordered = [this](int a, int b) { return reversed_ ? a > b : a < b; };
  if (!std::is_sorted(threads.begin(), threads.end(), ordered)) {
    std::sort(threads.begin(), threads.end(), ordered);
  }
  ready_.insert(ready_.end(), threads.begin(), threads.end());
  threads.clear();
}

// Threads that have ended are not waited for, as on a GPU.
void FiberBlock::ReleaseBarrierIfAllArrived() {
  if (!at_barrier_.empty() && static_cast<int>(at_barrier_.size()) == live_) MakeReady(at_barrier_);
}

void FiberBlock::Barrier() {
  current_->waits_for = "__syncthreads";
  at_barrier_.push_back(current_->index);
  ReleaseBarrierIfAllArrived();
  Yield();
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
    warp.waiting.push_back(current_->index);
    Yield();
    return;
  }
  warp.arrived = 0;
  action();
  MakeReady(warp.waiting);
}

void FiberBlock::ReportDeadlock() const {
  std::fprintf(stderr, "shim: no thread of the block can go on\n");
  for (const Fiber& fiber : fibers_) {
    std::fprintf(stderr, "  thread %d: %s\n", fiber.index,
                 fiber.done ? "has ended" : fiber.waits_for);
  }
  std::abort();
}

}  // namespace pregate
