// Products with weights of 13 bits (kQ13): floats come in, are rounded to 13 bits as well,
// multiplied as words of 16 bits and added up in integers, 128 elements at a time; floats go out.
//
// An output is the sum over groups of 128, in order, of (integer sum) * (weight's scale) * (row's
// scale): exact but for those few operations, and the same for a row in any batch.
#ifndef PREGATE_KERNELS_QUANT_WIDE_H_
#define PREGATE_KERNELS_QUANT_WIDE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/kernels.h"
#include "kernels/quant/formats.h"
#include "kernels/tensor.h"

namespace pregate {

inline constexpr int kWideGroup = 128;             // elements
inline constexpr int kWidePairs = kWideGroup / 2;  // a pair is a lane's operand
inline constexpr int kWideLanes = 16;              // rows of weights side by side
inline constexpr int kWideRows = 6;                // rows of x that registers hold
inline constexpr int kWideBlocks = 8;              // of so many rows, that a tile meets

// 128 columns of 16 rows of the weight; a panel is its groups, a weight is its panels, the last
// filled up with copies of the last row.
struct WidePanel {
  int32_t pairs[kWidePairs][kWideLanes];  // element 2 p in the low half of [p], 2 p + 1 above it
  float d[kWideLanes];
};

// 128 columns of some rows of x.
struct WideRowGroup {
  int32_t pairs[kWidePairs][kWideRows];
  float scale[kWideRows];
};

// One panel and some blocks of rows.
struct WideTile {
  const void* panel;  // [groups], as WideForm::set_lane has made them
  int64_t groups;     // K / 128
  const void* x;      // [blocks][groups], as WideForm::quantize has
  int rows;           // 1 .. WideForm::blocks * WideForm::rows
  const float* bias;  // [columns] or null
  float* out;         // [rows][columns], out_stride bytes apart
  int64_t out_stride;
  int columns;  // outputs that exist, 1 .. kWideLanes
  bool accumulate;
};
using WideFunction = void (*)(const WideTile&);

// Rows of x, at most a block's, as [groups]; what lacks of a block becomes zero.
using WideQuantizer = void (*)(const float* x, int64_t stride, int rows, int64_t groups, void* out);

// One row's part of 128 columns of a panel.
using WideLaneSetter = void (*)(const BlockQ13& block, int lane, void* group);

// How an instruction set multiplies: the pairs above, or a form of its own of the same size.
struct WideForm {
  int rows = 0;             // of a block
  int blocks = 0;           // that a tile meets
  int64_t group_bytes = 0;  // of 128 columns of a block
  WideFunction multiply = nullptr;
  WideQuantizer quantize = nullptr;
  // What a thread does before and after tiles, or null.
  void (*enter)() = nullptr;
  void (*leave)() = nullptr;
};

// Kernels::packed_bytes and pack for kQ13.
int64_t WideBytes(int64_t rows, int64_t cols);
void PackWide(Device& device, ConstTensor weight, WideLaneSetter set_lane, void* out);

// As WidePanel.
void SetWidePairs(const BlockQ13& block, int lane, void* group);

// Kernels::matmul for products that all have such weights, without lists of tiles.
void RunWide(Device& device, const WideForm& form, absl::Span<const Product> products);

}  // namespace pregate

#endif  // PREGATE_KERNELS_QUANT_WIDE_H_
