// The roofs of a GPU, measured: bytes copied in its memory (read and written, both counted), and
// operations of a large product of halves and of bfloat16, on random numbers. A line of JSON.
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr int kRepetitions = 7;

void Check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "gpu_roofs: %s failed\n", what);
  std::exit(1);
}
void Check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) std::fprintf(stderr, "gpu_roofs: %s\n", cudaGetErrorString(error));
  Check(error == cudaSuccess, what);
}

void* Allocate(size_t bytes) {
  void* data = nullptr;
  Check(cudaMalloc(&data, bytes), "allocation");
  return data;
}

// The median of the seconds that `work` takes, after two that do not count.
template <typename Work>
double MedianSeconds(const Work& work) {
  cudaEvent_t start, stop;
  Check(cudaEventCreate(&start), "event");
  Check(cudaEventCreate(&stop), "event");
  std::vector<float> times;
  for (int i = -2; i < kRepetitions; ++i) {
    Check(cudaEventRecord(start), "event");
    work();
    Check(cudaEventRecord(stop), "event");
    Check(cudaEventSynchronize(stop), "work");
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, start, stop), "event");
    if (i >= 0) times.push_back(milliseconds);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] / 1e3;
}

double CopyRate() {
  constexpr size_t kBytes = size_t{4} << 30;
  void *from = Allocate(kBytes), *to = Allocate(kBytes);
  Check(cudaMemset(from, 0x5A, kBytes), "filling");
  const double seconds = MedianSeconds(
      [&] { Check(cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice), "copy"); });
  Check(cudaFree(from), "free");
  Check(cudaFree(to), "free");
  return 2.0 * kBytes / seconds;
}

// Words of two numbers of 16 bits each, with the exponents of numbers in [1/64, 1/16).
__global__ void Fill(uint32_t* words, size_t count, uint32_t exponent, uint32_t random) {
  const size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  uint32_t state = static_cast<uint32_t>(i) * 747796405u + 2891336453u;
  state = ((state >> ((state >> 28) + 4)) ^ state) * 277803737u;
  state ^= state >> 22;
  words[i] = (state & random) | exponent;
}

double ProductRate(cudaDataType type, uint32_t exponent, uint32_t random) {
  constexpr int kSide = 8192;
  constexpr size_t kElements = size_t{kSide} * kSide;
  auto* const a = static_cast<uint32_t*>(Allocate(2 * kElements));
  auto* const b = static_cast<uint32_t*>(Allocate(2 * kElements));
  void* const c = Allocate(4 * kElements);
  for (uint32_t* matrix : {a, b}) {
    Fill<<<kElements / 2 / 256, 256>>>(matrix, kElements / 2, exponent, random);
    Check(cudaGetLastError(), "filling");
  }
  cublasHandle_t blas;
  Check(cublasCreate(&blas) == CUBLAS_STATUS_SUCCESS, "cuBLAS");
  const float one = 1, zero = 0;
  const double seconds = MedianSeconds([&] {
    Check(cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, kSide, kSide, kSide, &one, a, type, kSide, b,
                       type, kSide, &zero, c, CUDA_R_32F, kSide, CUBLAS_COMPUTE_32F,
                       CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS,
          "product");
  });
  Check(cublasDestroy(blas) == CUBLAS_STATUS_SUCCESS, "cuBLAS");
  for (void* matrix : {static_cast<void*>(a), static_cast<void*>(b), c}) {
    Check(cudaFree(matrix), "free");
  }
  return 2.0 * kSide * kSide * kSide / seconds;
}

}  // namespace

int main() {
  cudaDeviceProp device;
  Check(cudaGetDeviceProperties(&device, 0), "finding a device");
  const double copy = CopyRate();
  const double halves = ProductRate(CUDA_R_16F, 0x24002400u, 0x87FF87FFu);
  const double bf16 = ProductRate(CUDA_R_16BF, 0x3C803C80u, 0x80FF80FFu);
  std::printf(
      "{\"device\": \"%s\", \"copy_bytes_per_s\": %.4g, \"f16_ops_per_s\": %.4g, "
      "\"bf16_ops_per_s\": %.4g}\n",
      device.name, copy, halves, bf16);
  return 0;
}
