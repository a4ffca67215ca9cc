// Runs the tests on a stack that the GPU can reach: some of them hand arrays on theirs to kernels.
#include <gtest/gtest.h>
#include <pthread.h>

#include <cstdio>
#include <cstdlib>

namespace {

constexpr size_t kStackBytes = size_t{16} << 20;

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);  // asks for the tables, and so opens the GPU
  // Memory of UseReachableMemory from here on, where there is a GPU.
  void* const stack = std::aligned_alloc(4096, kStackBytes);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_t thread;
  int failed = 1;
  const auto run = [](void* result) -> void* {
    *static_cast<int*>(result) = RUN_ALL_TESTS();
    return nullptr;
  };
  if (stack == nullptr || pthread_attr_setstack(&attributes, stack, kStackBytes) != 0 ||
      pthread_create(&thread, &attributes, run, &failed) != 0) {
    std::fprintf(stderr, "no thread to run the tests on\n");
    return 1;
  }
  pthread_join(thread, nullptr);
  std::free(stack);
  return failed;
}
