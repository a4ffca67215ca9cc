// Matrix products for AVX-512 F, BW, DQ and VL.
// GCC 12 takes the deliberately undefined operands inside its AVX-512 intrinsics for mistakes.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/quant/entries.h"
#include "kernels/quant/matmul.h"
#include "kernels/quant/panels.h"
#include "kernels/quant/tiles.h"
#include "kernels/quant/wide.h"

// The target covers this file's own functions only, all of them without a name outside: code that
// other files may share was compiled above, for every machine.
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")

namespace pregate {
namespace {

// Each needs those before it.
// clang-format off
#include "kernels/quant/vec_avx512.inc"
#include "kernels/quant/loads.inc"
#include "kernels/quant/dot_pairs.inc"
#include "kernels/quant/decoders.inc"
#include "kernels/quant/store_sum.inc"
#include "kernels/quant/integer_tile.inc"
#include "kernels/quant/joined_tile.inc"
#include "kernels/quant/float_tile.inc"
#include "kernels/quant/wide_tile.inc"
#include "kernels/quant/fill.inc"
// clang-format on

}  // namespace
}  // namespace pregate

#pragma GCC pop_options

namespace pregate {

void FillMatmulAvx512(Kernels* table) { FillMatmul(table); }

}  // namespace pregate
