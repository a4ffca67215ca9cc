// Memory of a test program that its GPU can reach as well, so that tests may hand plain vectors to
// tables of any device.
#ifndef PREGATE_TESTS_KERNELS_GPU_REACHABLE_MEMORY_H_
#define PREGATE_TESTS_KERNELS_GPU_REACHABLE_MEMORY_H_

#include <cstddef>

namespace pregate {

// From here on `new`, and aligned_alloc of the program's own files, give pieces of `region`, as
// long as there are some. What was allocated before stays where it is.
void UseReachableMemory(void* region, size_t bytes);

}  // namespace pregate

#endif  // PREGATE_TESTS_KERNELS_GPU_REACHABLE_MEMORY_H_
