#include <immintrin.h>

#include <cassert>
#include <cstdint>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu_tables.h"
#include "kernels/cpu/gated_rows.h"
#include "kernels/cpu/rope_table.h"
#include "kernels/cpu/self_attention.h"
#include "kernels/cpu/work_split.h"
#include "kernels/kv_layout.h"

// The target begins after the last include and everything below has internal linkage, so that no
// wide code can end up in a function that other files share.
#pragma GCC push_options
// GCC 12's own headers start "undefined" registers from themselves (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")

namespace pregate::avx512 {
namespace {

#include "kernels/cpu/vec_avx512.h"
//
#include "kernels/cpu/math.inc"
//
#include "kernels/cpu/elementwise.inc"
#include "kernels/cpu/kv_rows.inc"
#include "kernels/cpu/routing.inc"
//
#include "kernels/cpu/attention.inc"
//
#include "kernels/cpu/encoder.inc"

}  // namespace
}  // namespace pregate::avx512

#pragma GCC pop_options

namespace pregate {

void FillCpuAvx512(Kernels* kernels) {
  kernels->rms_norm = avx512::RmsNorm;
  kernels->layer_norm = avx512::LayerNorm;
  kernels->rope_table = RopeTable;
  kernels->rope = avx512::Rope;
  kernels->kv_append = avx512::KvAppend;
  kernels->attention = avx512::Attention;
  kernels->self_attention = avx512::SelfAttend;
  kernels->gated_activation = avx512::GatedActivation;
  kernels->add = avx512::Add;
  kernels->gather_rows = avx512::GatherRows;
  kernels->top_k_gate = avx512::TopKGate;
  kernels->combine_rows = avx512::CombineRows;
}

}  // namespace pregate
