// Matrix products for AVX2, FMA and F16C.
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
#pragma GCC target("avx2,fma,f16c")

namespace pregate {
namespace {

// Each needs those before it.
// clang-format off
#include "kernels/quant/vec_avx2.inc"
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

void FillMatmulAvx2(Kernels* table) { FillMatmul(table); }

}  // namespace pregate
