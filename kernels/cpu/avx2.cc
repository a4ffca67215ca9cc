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
#pragma GCC target("avx2,fma,f16c")

namespace pregate::avx2 {
namespace {

#include "kernels/cpu/vec_avx2.h"
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
}  // namespace pregate::avx2

#pragma GCC pop_options

namespace pregate {

void FillCpuAvx2(Kernels* kernels) {
  kernels->rms_norm = avx2::RmsNorm;
  kernels->layer_norm = avx2::LayerNorm;
  kernels->rope_table = RopeTable;
  kernels->rope = avx2::Rope;
  kernels->kv_append = avx2::KvAppend;
  kernels->attention = avx2::Attention;
  kernels->self_attention = avx2::SelfAttend;
  kernels->gated_activation = avx2::GatedActivation;
  kernels->add = avx2::Add;
  kernels->gather_rows = avx2::GatherRows;
  kernels->top_k_gate = avx2::TopKGate;
  kernels->combine_rows = avx2::CombineRows;
}

}  // namespace pregate
