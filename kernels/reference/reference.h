// The reference table's entries: see kernels/kernels.h for what each must do.
#ifndef PREGATE_KERNELS_REFERENCE_REFERENCE_H_
#define PREGATE_KERNELS_REFERENCE_REFERENCE_H_

#include "kernels/kernels.h"

namespace pregate::reference {

void RmsNorm(Device&, ConstTensor x, ConstTensor weight, float weight_offset, float eps,
             Tensor out);
void LayerNorm(Device&, ConstTensor x, ConstTensor residual, ConstTensor weight, ConstTensor bias,
               float eps, Tensor out);
void RopeTable(Device&, const int32_t* positions, const float* inv_freq, float magnitude,
               Tensor cos_sin);
void Rope(Device&, Tensor x, int32_t head_dim, ConstTensor cos_sin, RopeStyle style);
void KvAppend(Device&, ConstTensor k, ConstTensor v, const int32_t* slots, KvLayerView kv);
void Attention(Device&, ConstTensor q, KvLayerView kv, const AttentionBatch& batch,
               const AttentionParams& params, Tensor out);
void SelfAttend(Device&, const SelfAttention& call);
void GatedActivation(Device&, Activation activation, absl::Span<const GatedRows> groups);
void Add(Device&, ConstTensor a, ConstTensor b, Tensor out);
void GatherRows(Device&, ConstTensor x, const int32_t* rows, Tensor out);
void TopKGate(Device&, ConstTensor logits, ConstTensor shared_logits, const GateParams& params,
              int32_t* ids, float* weights);
void CombineRows(Device&, ConstTensor y, const int32_t* positions, const float* weights, int32_t k,
                 Tensor out);
void Likeliest(Device&, ConstTensor logits, int32_t vocab, int32_t k, int32_t* ids, float* values,
               double* totals);
void GatherLogits(Device&, ConstTensor logits, absl::Span<const LogitPlace> places, float* values);
void EditLogits(Device&, Tensor logits, absl::Span<const LogitEdit> edits);
void DrawTokens(Device&, ConstTensor logits, int32_t vocab, absl::Span<const TokenDraw> draws,
                int32_t* ids, float* values);

}  // namespace pregate::reference

#endif  // PREGATE_KERNELS_REFERENCE_REFERENCE_H_
