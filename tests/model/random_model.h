// A small decoder with random weights that come from a formula: a model for tests without a file.
#ifndef PREGATE_TESTS_MODEL_RANDOM_MODEL_H_
#define PREGATE_TESTS_MODEL_RANDOM_MODEL_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "engine/model/model_file.h"
#include "kernels/tensor.h"

namespace pregate {

// Shapes of a Llama-like model. Its tokenizer is byte-level: ids 0...255 are the bytes, 256 ends an
// answer, the others are pairs of letters that no merge leads to.
struct RandomModelSpec {
  int32_t num_layers = 2;
  int32_t hidden_size = 64;
  int32_t ffn_size = 128;
  int32_t num_heads = 4;
  int32_t num_kv_heads = 2;
  int32_t head_dim = 64;
  int32_t vocab_size = 320;
  int32_t context_length = 512;
  int32_t sliding_window = 0;  // not 0: every second layer is local
  bool tied_embeddings = false;
  bool qkv_bias = false;
  bool qk_norm = false;
  int32_t num_experts = 0;  // not 0: layers are mixtures of experts of ffn_size
  int32_t experts_per_token = 2;
  int32_t shared_ffn_size = 0;
  DType matrix_dtype = DType::kF32;  // kF32, kF16, kBF16 or kQ8_0
  uint64_t seed = 1;
  // For measurements of speed: matrices of kBF16, kQ4_0 or kQ4_K, however large, which are all the
  // same bytes. What such a model answers means nothing.
  bool one_matrix = false;
};

std::unique_ptr<ModelFile> MakeRandomModel(const RandomModelSpec& spec);

// Element `index` of the tensor `name`: uniform in [-1, 1), a multiple of 2^-23. The script
// tests/tools/make_parity_goldens.py knows the same formula: SplitMix64 (Steele et al. 2014,
// "Fast splittable pseudorandom number generators") over the FNV-1a hash of the name.
float RandomElement(std::string_view name, uint64_t index);

// `count` elements of the tensor `name`, scaled to keep a network of such tensors alive: matrices
// [rows, cols] by sqrt(3 / cols), vectors (rows == 1) of norms 1 + x / 4, biases x / 4.
std::vector<float> RandomTensor(std::string_view name, int64_t rows, int64_t cols);

// `values` in the bytes of `dtype` (plain types and Q8_0).
std::vector<uint8_t> EncodeTensor(const std::vector<float>& values, DType dtype);

}  // namespace pregate

#endif  // PREGATE_TESTS_MODEL_RANDOM_MODEL_H_
