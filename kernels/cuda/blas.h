// Products of large plain matrices by a library (cuBLASLt on a GPU).
#ifndef PREGATE_KERNELS_CUDA_BLAS_H_
#define PREGATE_KERNELS_CUDA_BLAS_H_

#include <cstdint>

namespace pregate {

// out[r, n] = alpha * sum_k x[r, k] * weight[n, k], or out += that. Halves in, sums and results in
// float; all in device memory, 16-byte aligned, rows densely packed except those of `out`.
struct HalfProduct {
  const void* x = nullptr;       // [rows, depth]
  const void* weight = nullptr;  // [outputs, depth]
  float* out = nullptr;          // [rows, outputs]
  int64_t out_stride = 0;        // elements from row to row of out
  int64_t rows = 0, outputs = 0, depth = 0;
  float alpha = 1.0f;
  bool accumulate = false;
};

class Blas {
 public:
  virtual ~Blas() = default;

  // Issues the product behind everything issued before. False, with nothing issued, where the
  // library has no algorithm for these shapes. A row's bits may depend on `rows`.
  virtual bool Multiply(const HalfProduct& product) = 0;
};

}  // namespace pregate

#endif  // PREGATE_KERNELS_CUDA_BLAS_H_
