// Tensor views: what kernels read and write. A view owns nothing and knows no model.
#ifndef PREGATE_KERNELS_TENSOR_H_
#define PREGATE_KERNELS_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

// Before a function that code of a GPU may call as well.
#ifdef __CUDACC__
#define PREGATE_HOST_DEVICE __host__ __device__
#else
#define PREGATE_HOST_DEVICE
#endif

namespace pregate {

// Element types of a tensor. The quantised ones are the block formats of the GGUF specification
// (ggml docs/gguf.md and the block layouts of `ggml_type`); those from kQ16Act to kQ13 are ours.
enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kI32,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  // Activations quantised to 16 bits, K % 32 == 0: a matrix laid out as a whole, in the order in
  // which products read it, see kernels/quant/activations.h. A quant is two signed bytes, which
  // multiply on the integer units. Made by `Kernels::quantize_rows`, read only by
  // `Kernels::matmul`.
  kQ16Act,
  // The same with one byte: half the work, but the likeliest token changes at 3 to 4 of 100
  // positions.
  kQ8Act,
  // Weights quantised at load to 13 bits, in groups of 128 (formats.h, BlockQ13): a product with
  // them rounds its other operand alike and multiplies in integers, as fast as with bytes where a
  // processor has no instruction for those. Ours, in no file.
  kQ13,
  // OCP's 8-bit floats of 4 exponent and 3 mantissa bits, "E4M3": in files, whose scales are
  // tensors of their own, and in the KV cache. No product reads them, see kF8Blocks.
  kF8E4M3,
  // Weights of a file in kF8E4M3 with their scales: 32 such elements and a float (formats.h,
  // BlockF8). A file's scales, whatever they are for, are repeated, so that nothing is rounded.
  kF8Blocks,
};
inline constexpr int kNumDTypes = 17;

// Static facts of an element type.
struct DTypeInfo {
  std::string_view name;  // as GGUF spells it: "F32", "Q4_K", ...
  int block_elements;     // elements of one block; 1 for plain types
  int block_bytes;        // bytes of one block (kQ16Act, kQ8Act: 32 elements' share)
};
const DTypeInfo& GetDTypeInfo(DType dtype);

// Bytes of a densely packed row of `cols` elements. `cols` must be a multiple of block_elements.
// The caller has bounded `cols` (file numbers go through checked arithmetic before this).
int64_t RowBytes(DType dtype, int64_t cols);

// A row-major matrix view: `rows` rows of `cols` elements, consecutive rows `stride` bytes apart.
// Vectors are matrices of one row.
struct ConstTensor {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  template <typename T>
  PREGATE_HOST_DEVICE const T* Row(int64_t r) const {
    return reinterpret_cast<const T*>(static_cast<const char*>(data) + r * stride);
  }
  PREGATE_HOST_DEVICE explicit operator bool() const { return data != nullptr; }
};

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  template <typename T>
  PREGATE_HOST_DEVICE T* Row(int64_t r) const {
    return reinterpret_cast<T*>(static_cast<char*>(data) + r * stride);
  }
  operator ConstTensor() const { return {data, dtype, rows, cols, stride}; }  // NOLINT
  PREGATE_HOST_DEVICE explicit operator bool() const { return data != nullptr; }
};

// Views over densely packed memory.
ConstTensor MakeView(const void* data, DType dtype, int64_t rows, int64_t cols);
Tensor MakeView(void* data, DType dtype, int64_t rows, int64_t cols);

// IEEE half and bfloat16 conversions, round to nearest even. Scalar: for tables and tests.
float HalfToFloat(uint16_t half);
uint16_t FloatToHalf(float value);
float BFloat16ToFloat(uint16_t bf16);
uint16_t FloatToBFloat16(float value);
// E4M3, whose largest is 448: larger numbers and NaN become that one, with their sign. What E4M3
// calls NaN reads as 480 here as in every kernel.
inline constexpr float kMaxE4M3 = 448.0f;
float E4M3ToFloat(uint8_t e4m3);
uint8_t FloatToE4M3(float value);

}  // namespace pregate

#endif  // PREGATE_KERNELS_TENSOR_H_
