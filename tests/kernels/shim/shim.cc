#include "tests/kernels/shim/shim.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/gpu.h"
#include "kernels/tensor.h"
#include "tests/kernels/late_copy_lane.h"
#include "tests/kernels/shim/fibers.h"

#ifdef PREGATE_SHIM_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#else
inline void __asan_poison_memory_region(const void*, size_t) {}
inline void __asan_unpoison_memory_region(const void*, size_t) {}
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace pregate {
namespace {

// What the smallest device that the module is built for (compute capability 8.0) has.
constexpr size_t kMaxSharedBytes = 163 * 1024;
constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kMaxBlocksYZ = 65535;

// Memory of all shim devices, which code of the host must not touch.
std::map<char*, size_t>& DeviceMemory() {
  static auto* const memory = new std::map<char*, size_t>;
  return *memory;
}

// While it lives, memory of devices may be touched, by this thread alone: kernels and copies beside
// them take turns.
class OnDevice {
 public:
  OnDevice() : lock_(Turn()) {
    for (const auto& [data, bytes] : DeviceMemory()) __asan_unpoison_memory_region(data, bytes);
  }
  ~OnDevice() {
    for (const auto& [data, bytes] : DeviceMemory()) __asan_poison_memory_region(data, bytes);
  }
  static std::mutex& Turn() {
    static auto* const turn = new std::mutex;
    return *turn;
  }

 private:
  const std::lock_guard<std::mutex> lock_;
};

struct Shim {
  FiberBlock block;
  char* shared = nullptr;
  bool reversed = false;
  int64_t launches = 0;
  std::vector<uint64_t>* recording = nullptr;  // what NoteOnShim is told
  float halves[1 << 16];                       // value of each bit pattern

  Shim() {
    for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
      halves[bits] = HalfToFloat(static_cast<uint16_t>(bits));
    }
  }
};
Shim& TheShim() {
  static auto* const shim = new Shim;
  return *shim;
}

[[noreturn]] void Refuse(const char* what) {
  std::fprintf(stderr, "shim: %s\n", what);
  std::abort();
}

void CheckGrid(const Grid& grid) {
  const unsigned threads = grid.threads.x * grid.threads.y * grid.threads.z;
  if (threads == 0 || threads > kMaxThreads) Refuse("a block must have 1 to 1024 threads");
  if (grid.blocks.y > kMaxBlocksYZ || grid.blocks.z > kMaxBlocksYZ) {
    Refuse("a grid must have at most 65535 blocks along y and z");
  }
  if (grid.shared_bytes > kMaxSharedBytes) Refuse("too much shared memory");
}

void RunBlock(const Grid& grid, absl::FunctionRef<void()> thread) {
  Shim& shim = TheShim();
  const std::align_val_t alignment{16};
  // At least one byte, so that touching any is seen.
  shim.shared = static_cast<char*>(::operator new(grid.shared_bytes, alignment));
  std::memset(shim.shared, 0xFF, grid.shared_bytes);
  shim.block.Run(grid.threads, shim.reversed, thread);
  ::operator delete(shim.shared, alignment);
  shim.shared = nullptr;
}

class ShimDevice : public GpuDevice {
 public:
  ~ShimDevice() override {
    scratch_.clear();
    residents_.clear();
  }

  std::string_view name() const override { return "shim"; }
  bool host_memory() const override { return false; }

  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override {
    auto* const data = static_cast<char*>(::operator new (bytes, std::align_val_t{kAlignment}));
    std::memset(data, 0xFF, bytes);
    const std::lock_guard lock(OnDevice::Turn());
    DeviceMemory()[data] = bytes;
    __asan_poison_memory_region(data, bytes);
    return DeviceBuffer(this, data, bytes);
  }
  absl::StatusOr<std::unique_ptr<CopyLane>> MakeCopyLane() override {
    return std::make_unique<LateCopyLane>(this);
  }
  void CopyToDevice(void* dst, const void* host_src, size_t bytes) override {
    const OnDevice on_device;
    if (bytes > 0) std::memcpy(dst, host_src, bytes);
  }
  void CopyToHost(void* host_dst, const void* src, size_t bytes) override {
    const OnDevice on_device;
    if (bytes > 0) std::memcpy(host_dst, src, bytes);
  }
  void Synchronize() override {}
  void ParallelFor(int64_t count, int64_t grain,
                   absl::FunctionRef<void(int64_t begin, int64_t end)> body) override {
    host_->ParallelFor(count, grain, body);
  }
  int num_threads() const override { return host_->num_threads(); }

  // Runs every body, and sees that those of one key issue the same.
  void Replay(uint64_t key, absl::FunctionRef<void()> body) override {
    std::vector<uint64_t> issued;
    TheShim().recording = &issued;
    body();
    TheShim().recording = nullptr;
    if (key == 0) return;
    const auto [first, is_new] = recorded_.try_emplace(key, issued);
    if (!is_new && first->second != issued) Refuse("other calls than those recorded with this key");
    replays_ += !is_new;
  }
  int64_t replays() const { return replays_; }

  void* stream() override { return nullptr; }
  // Poisoned anew by every entry. One piece of memory for each size, so that it is exactly as long
  // as asked for and the same from step to step.
  void* Scratch(size_t bytes) override {
    DeviceBuffer& piece = scratch_[bytes];
    if (piece.size() == 0) piece = *Allocate(std::max<size_t>(bytes, 1));
    const OnDevice on_device;
    std::memset(piece.data(), 0xFF, piece.size());
    return piece.data();
  }
  const void* Resident(const void* host, size_t bytes) override {
    if (bytes == 0) return nullptr;
    DeviceBuffer& copy = residents_[std::string(static_cast<const char*>(host), bytes)];
    if (copy.size() == 0) {
      copy = *Allocate(bytes);
      CopyToDevice(copy.data(), host, bytes);
    }
    return copy.data();
  }
  int multiprocessors() const override { return 2; }
  size_t max_shared_bytes() const override { return kMaxSharedBytes; }
  Blas* blas() override { return nullptr; }

 protected:
  void Free(void* data, size_t bytes) override {
    const std::lock_guard lock(OnDevice::Turn());
    __asan_unpoison_memory_region(data, bytes);
    DeviceMemory().erase(static_cast<char*>(data));
    ::operator delete (data, std::align_val_t{kAlignment});
  }

 private:
  static constexpr size_t kAlignment = 256;
  const std::unique_ptr<Device> host_ = MakeCpuDevice(1);
  std::map<size_t, DeviceBuffer> scratch_;
  std::map<std::string, DeviceBuffer> residents_;
  std::map<uint64_t, std::vector<uint64_t>> recorded_;
  int64_t replays_ = 0;
};

// [16, 16] by [16, 8], as gpu.h says which lane holds what. Sums are formed in double: the order
// in which tensor cores add is not told.
void MultiplyHalves(FiberBlock::Warp& warp) {
  const float* const halves = TheShim().halves;
  float a[16][16], b[16][8];
  const auto unpack = [&](uint32_t word, float* low, float* high) {
    *low = halves[word & 0xFFFF];
    *high = halves[word >> 16];
  };
  for (int lane = 0; lane < kWarp; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const FiberBlock::Operands& own = warp.operands[lane];
    for (int word = 0; word < 4; ++word) {
      float* const row = &a[g + 8 * (word % 2)][2 * t + 8 * (word / 2)];
      unpack(own.a[word], row, row + 1);
    }
    for (int word = 0; word < 2; ++word) {
      unpack(own.b[word], &b[2 * t + 8 * word][g], &b[2 * t + 8 * word + 1][g]);
    }
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      float& d = warp.operands[lane].d[i];
      double sum = d;
      for (int k = 0; k < 16; ++k) sum += double{a[g + 8 * (i / 2)][k]} * b[k][2 * t + i % 2];
      d = static_cast<float>(sum);
    }
  }
}

void Arrive(const FiberBlock::Copy& copy) {
  if (copy.valid > 0) std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.valid));
  std::memset(static_cast<char*>(copy.to) + copy.valid, 0, static_cast<size_t>(16 - copy.valid));
}

}  // namespace

std::unique_ptr<GpuDevice> MakeShimDevice() { return std::make_unique<ShimDevice>(); }
void SetShimOrder(bool reversed) { TheShim().reversed = reversed; }
int64_t ShimLaunches() { return TheShim().launches; }
int64_t ShimReplays(const Device& device) {
  return static_cast<const ShimDevice&>(device).replays();
}

// --- What gpu.h declares. ---

namespace gpu_internal {
void RunOnShim(const Grid& grid, void (*thread)(void*), void* kernel_and_arguments) {
  const unsigned x = grid.blocks.x, y = grid.blocks.y, z = grid.blocks.z;
  if (x == 0 || y == 0 || z == 0) return;
  CheckGrid(grid);
  const OnDevice on_device;
  Shim& shim = TheShim();
  ++shim.launches;
  blockDim = grid.threads;
  gridDim = grid.blocks;
  const uint64_t count = uint64_t{x} * y * z;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t block = shim.reversed ? count - 1 - i : i;
    blockIdx = dim3(static_cast<unsigned>(block % x), static_cast<unsigned>(block / x % y),
                    static_cast<unsigned>(block / x / y));
    RunBlock(grid, [&] { thread(kernel_and_arguments); });
  }
}
void NoteOnShim(uint64_t word) {
  if (TheShim().recording != nullptr) TheShim().recording->push_back(word);
}
}  // namespace gpu_internal

char* SharedMemory() { return TheShim().shared; }
float FromHalf(uint16_t half) { return TheShim().halves[half]; }
uint16_t ToHalf(float value) { return FloatToHalf(value); }

uint32_t SubHalves(uint32_t a, uint32_t b) {
  const auto sub = [](uint32_t x, uint32_t y) {
    return uint32_t{
        ToHalf(FromHalf(static_cast<uint16_t>(x)) - FromHalf(static_cast<uint16_t>(y)))};
  };
  return sub(a & 0xFFFF, b & 0xFFFF) | sub(a >> 16, b >> 16) << 16;
}
uint32_t FmaHalves(uint32_t a, uint32_t b, uint32_t c) {
  const auto fma = [](uint32_t x, uint32_t y, uint32_t z) {
    // The product is exact in float; the sum of it and a half rounds twice at worst.
    const double sum =
        double{FromHalf(static_cast<uint16_t>(x))} * FromHalf(static_cast<uint16_t>(y)) +
        FromHalf(static_cast<uint16_t>(z));
    return uint32_t{ToHalf(static_cast<float>(sum))};
  };
  return fma(a & 0xFFFF, b & 0xFFFF, c & 0xFFFF) | fma(a >> 16, b >> 16, c >> 16) << 16;
}

void MmaHalves(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  FiberBlock& block = TheShim().block;
  FiberBlock::Warp& warp = block.warp();
  warp.operands[block.lane()] = {d, a, b};
  block.Collective("MmaHalves", kAllLanes, [&] { MultiplyHalves(warp); });
}

void CopyAsync16(void* shared, const void* global, int valid) {
  const auto misaligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 != 0; };
  if (misaligned(shared) || (valid > 0 && misaligned(global))) Refuse("a misaligned copy");
  TheShim().block.open_copies().push_back({shared, global, valid});
}
void CommitCopies() {
  FiberBlock& block = TheShim().block;
  block.copy_groups().push_back(std::exchange(block.open_copies(), {}));
}
void WaitForCopiesBut(int pending) {
  auto& groups = TheShim().block.copy_groups();
  while (static_cast<int>(groups.size()) > pending) {
    for (const FiberBlock::Copy& copy : groups.front()) Arrive(copy);
    groups.pop_front();
  }
}

}  // namespace pregate

// --- What cuda_runtime.h declares. ---

void __syncthreads() { pregate::TheShim().block.Barrier(); }
void __syncwarp(unsigned mask) {
  pregate::TheShim().block.Collective("__syncwarp", mask, [] {});
}

namespace shim {
int Lane() { return pregate::TheShim().block.lane(); }

uint64_t Exchange(const char* name, unsigned mask, uint64_t value, int source) {
  pregate::FiberBlock& block = pregate::TheShim().block;
  pregate::FiberBlock::Warp& warp = block.warp();
  const uint64_t* const values = warp.values[warp.given];
  warp.values[warp.given][block.lane()] = value;
  block.Collective(name, mask, [&] { warp.given ^= 1; });
  return values[source];
}

uint32_t Ballot(unsigned mask, bool vote) {
  const pregate::FiberBlock::Warp& warp = pregate::TheShim().block.warp();
  const uint64_t* const values = warp.values[warp.given];
  Exchange("ballot", mask, vote ? 1 : 0, 0);
  uint32_t votes = 0;
  for (int lane = 0; lane < 32; ++lane) votes |= static_cast<uint32_t>(values[lane]) << lane;
  return votes;
}
}  // namespace shim
