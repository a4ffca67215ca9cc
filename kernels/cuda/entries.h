// The entries of the CUDA table: the halves that launch. Contracts stand in kernels/kernels.h; all
// pointers in views and batches are to device memory, spans are the host's.
#ifndef PREGATE_KERNELS_CUDA_ENTRIES_H_
#define PREGATE_KERNELS_CUDA_ENTRIES_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/kernels.h"

namespace pregate::cuda {

// attention.cu
void Attention(Device& device, ConstTensor q, KvLayerView kv, const AttentionBatch& batch,
               const AttentionParams& params, Tensor out);

// self_attention.cu
void SelfAttention(Device& device, const pregate::SelfAttention& call);

// pack.cc
int64_t PackedBytes(DType dtype, int64_t rows, int64_t cols);
void Pack(Device& device, ConstTensor weight, bool by_tiles, void* out);

// embed.cu
void Embed(Device& device, const PackedWeight& table, const int32_t* ids, float scale, Tensor out);

// likeliest.cu
void Likeliest(Device& device, ConstTensor logits, int32_t vocab, int32_t k, int32_t* ids,
               float* values, double* totals);

// edit_logits.cu
void GatherLogits(Device& device, ConstTensor logits, absl::Span<const LogitPlace> places,
                  float* values);
void EditLogits(Device& device, Tensor logits, absl::Span<const LogitEdit> edits);

// draw_tokens.cu
void DrawTokens(Device& device, ConstTensor logits, int32_t vocab,
                absl::Span<const TokenDraw> draws, int32_t* ids, float* values);

// quantize.cu
void QuantizeRows(Device& device, absl::Span<const Quantization> matrices);

// matmul.cu
void Matmul(Device& device, absl::Span<const Product> products);
void GroupedMatmul(Device& device, absl::Span<const GroupedProduct> products);

// elementwise.cu
void Add(Device& device, ConstTensor a, ConstTensor b, Tensor out);
void GatherRows(Device& device, ConstTensor x, const int32_t* rows, Tensor out);

// gated_activation.cu
void GatedActivation(Device& device, Activation activation, absl::Span<const GatedRows> groups);

// kv_append.cu
void KvAppend(Device& device, ConstTensor k, ConstTensor v, const int32_t* slots, KvLayerView kv);

// norm.cu
void RmsNorm(Device& device, ConstTensor x, ConstTensor weight, float weight_offset, float eps,
             Tensor out);
void LayerNorm(Device& device, ConstTensor x, ConstTensor residual, ConstTensor weight,
               ConstTensor bias, float eps, Tensor out);

// rope.cu
void RopeTable(Device& device, const int32_t* positions, const float* inv_freq, float magnitude,
               Tensor cos_sin);
void Rope(Device& device, Tensor x, int32_t head_dim, ConstTensor cos_sin, RopeStyle style);

// routing.cu
void TopKGate(Device& device, ConstTensor logits, ConstTensor shared_logits,
              const GateParams& params, int32_t* ids, float* weights);
void CombineRows(Device& device, ConstTensor y, const int32_t* positions, const float* weights,
                 int32_t k, Tensor out);

// sort_by_expert.cu
void SortByExpert(Device& device, const int32_t* ids, int64_t rows, int32_t k, int32_t experts,
                  const ExpertOrder& order);

}  // namespace pregate::cuda

#endif  // PREGATE_KERNELS_CUDA_ENTRIES_H_
