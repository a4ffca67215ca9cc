#include "tests/kernels/gpu/reachable_memory.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>

// The linker gives these the program's own calls of aligned_alloc and free (--wrap).
extern "C" {
void* __real_aligned_alloc(size_t alignment, size_t bytes);  // NOLINT: the linker's names
void __real_free(void* data);                                // NOLINT
}

namespace pregate {
namespace {

// Stands before every piece of the region.
struct Header {
  char* begin;   // of the block that the piece is in
  size_t bytes;  // of the block, a power of two
};
constexpr size_t kLeastAlignment = 64;

struct Region {
  std::mutex mutex;
  char* begin = nullptr;
  char* next = nullptr;
  char* end = nullptr;
  std::array<char*, 64> free = {};  // blocks of 2^i bytes; each begins with the next one's address

  char* Take(size_t bytes) {
    char*& first = free[static_cast<size_t>(std::countr_zero(bytes))];
    if (first != nullptr) {
      char* const block = first;
      first = *reinterpret_cast<char**>(block);
      return block;
    }
    if (bytes > static_cast<size_t>(end - next)) return nullptr;
    char* const block = next;
    next += bytes;
    return block;
  }
};

// Lives as long as anything that may be freed.
Region& TheRegion() {
  alignas(Region) static char memory[sizeof(Region)];
  static auto* const region = new (memory) Region;
  return *region;
}

void* Allocate(size_t bytes, size_t alignment) {
  Region& region = TheRegion();
  alignment = std::max(alignment, kLeastAlignment);
  {
    const std::lock_guard lock(region.mutex);
    if (region.begin != nullptr) {
      const size_t block_bytes = std::bit_ceil(bytes + sizeof(Header) + alignment);
      if (char* const block = region.Take(block_bytes); block != nullptr) {
        const auto first = reinterpret_cast<uintptr_t>(block) + sizeof(Header);
        const uintptr_t piece = (first + alignment - 1) / alignment * alignment;
        reinterpret_cast<Header*>(piece)[-1] = {block, block_bytes};
        return reinterpret_cast<void*>(piece);
      }
    }
  }
  return __real_aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
}

void Free(void* data) {
  Region& region = TheRegion();
  auto* const piece = static_cast<char*>(data);
  const std::lock_guard lock(region.mutex);
  if (piece < region.begin || piece >= region.end) return __real_free(data);
  const Header header = reinterpret_cast<Header*>(piece)[-1];
  char*& first = region.free[static_cast<size_t>(std::countr_zero(header.bytes))];
  *reinterpret_cast<char**>(header.begin) = first;
  first = header.begin;
}

void* New(size_t bytes, size_t alignment) {
  void* const data = Allocate(bytes, alignment);
  if (data == nullptr) std::abort();
  return data;
}

}  // namespace

void UseReachableMemory(void* region, size_t bytes) {
  Region& r = TheRegion();
  const std::lock_guard lock(r.mutex);
  r.begin = r.next = static_cast<char*>(region);
  r.end = r.begin + bytes;
}

}  // namespace pregate

extern "C" void* __wrap_aligned_alloc(size_t alignment, size_t bytes) {  // NOLINT
  return pregate::Allocate(bytes, alignment);
}
extern "C" void __wrap_free(void* data) { pregate::Free(data); }  // NOLINT

// The forms that the standard library derives the others from.
void* operator new(size_t bytes) { return pregate::New(bytes, 1); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  return pregate::New(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* data) noexcept { pregate::Free(data); }
void operator delete(void* data, size_t) noexcept { pregate::Free(data); }
void operator delete(void* data, std::align_val_t) noexcept { pregate::Free(data); }
void operator delete(void* data, size_t, std::align_val_t) noexcept { pregate::Free(data); }
