// Matrix products and quantisation: the entries of a kernel table that read the block formats.
#ifndef PREGATE_KERNELS_QUANT_MATMUL_H_
#define PREGATE_KERNELS_QUANT_MATMUL_H_

#include "kernels/kernels.h"

namespace pregate {

// Each fills the entries `embed`, `packed_bytes`, `pack`, `quantize_rows`, `matmul` and
// `activation_dtype` of a table and leaves the others alone. The names are those of the tables;
// calling the filled entries needs a machine with the instruction set, filling them does not.
void FillMatmulReference(Kernels* table);
void FillMatmulAvx2(Kernels* table);        // AVX2, FMA, F16C
void FillMatmulAvx512(Kernels* table);      // AVX-512 F, BW, DQ, VL
void FillMatmulAvx512Vnni(Kernels* table);  // the same and VNNI
void FillMatmulAmx(Kernels* table);         // the same and AMX's tiles of bfloat16 and int8

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_MATMUL_H_
