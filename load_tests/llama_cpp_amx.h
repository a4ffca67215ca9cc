
// Appended to llama.cpp's ggml-cpu/amx/common.h by build_llama_cpp.sh: GCC 12's own
// _tile_loadconfig says that it reads 8 of the 64 bytes, and its _tile_loadd that it reads none, so
// that the compiler drops what is written to the others (the program ends with a protection fault).
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
static inline void loadconfig_of_64_bytes(const void* config) {
  struct Config {
    char bytes[64];
  };
  __asm__ volatile("ldtilecfg %0" ::"m"(*(const struct Config*)config));
}
#undef _tile_loadconfig
#define _tile_loadconfig loadconfig_of_64_bytes
#undef _tile_loadd
#define _tile_loadd(tile, from, stride) loadd_from_memory(tile, from, stride)
#define loadd_from_memory(tile, from, stride)                                     \
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"((const void*)(from)), \
                   "r"((long)(stride))                                            \
                   : "memory")
#endif
