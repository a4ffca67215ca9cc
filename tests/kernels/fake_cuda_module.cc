// A CUDA module of another version of the program, or of one that said none, for backend_test.
#include <cstdint>
#include <cstdlib>

#define PREGATE_EXPORT extern "C" __attribute__((visibility("default")))

#ifndef FAKE_WITHOUT_VERSION
PREGATE_EXPORT uint64_t PregateCudaModuleVersion() { return 1; }
#endif

// Nobody knows what it takes.
PREGATE_EXPORT void PregateOpenCudaModule() { std::abort(); }
