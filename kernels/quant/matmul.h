// Who fills the matrix products, embeddings and activation quantisation of each table.
#ifndef PREGATE_KERNELS_QUANT_MATMUL_H_
#define PREGATE_KERNELS_QUANT_MATMUL_H_

#include "kernels/kernels.h"

namespace pregate {

// Each sets embed, quantize_rows, matmul and activation_dtype.
void FillMatmulReference(Kernels* kernels);
void FillMatmulAvx2(Kernels* kernels);
void FillMatmulAvx512(Kernels* kernels);
void FillMatmulAvx512Vnni(Kernels* kernels);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_MATMUL_H_
