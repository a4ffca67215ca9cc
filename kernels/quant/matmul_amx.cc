// Matrix products for AMX: with many rows of quantised activations by tile registers, others as
// AVX-512 with VNNI makes them.
// GCC 12 takes the deliberately undefined operands inside its AVX-512 intrinsics for mistakes.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <bit>
#include <cstdint>
#include <cstring>

#include "kernels/quant/entries.h"
#include "kernels/quant/many_rows.h"
#include "kernels/quant/matmul.h"
#include "kernels/quant/panels.h"
#include "kernels/quant/tiles.h"
#include "kernels/quant/wide.h"

// The target covers this file's own functions only, all of them without a name outside: code that
// other files may share was compiled above, for every machine.
#pragma GCC push_options
#pragma GCC target( \
    "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-bf16,amx-int8")

namespace pregate {
namespace {

// Each needs those before it.
// clang-format off
#include "kernels/quant/vec_avx512.inc"
#include "kernels/quant/loads.inc"
#include "kernels/quant/dot_vnni.inc"
#include "kernels/quant/decoders.inc"
#include "kernels/quant/store_sum.inc"
#include "kernels/quant/amx_tile.inc"
#include "kernels/quant/amx_wide_tile.inc"
// clang-format on

constexpr ManyRowsSet MakeManyRows() {
  ManyRowsSet set;
  SetMany<DecoderQ8_0>(DType::kQ8_0, &set);
  SetMany<DecoderQ4_0>(DType::kQ4_0, &set);
  SetMany<DecoderQ4_1>(DType::kQ4_1, &set);
  SetMany<DecoderQ5_0>(DType::kQ5_0, &set);
  SetMany<DecoderQ5_1>(DType::kQ5_1, &set);
  SetMany<DecoderQ4_K>(DType::kQ4_K, &set);
  SetMany<DecoderQ5_K>(DType::kQ5_K, &set);
  SetMany<DecoderQ6_K>(DType::kQ6_K, &set);
  set.make_rows[static_cast<int>(TileForm::kBytes)] = MakeTileRows<TileForm::kBytes>;
  set.make_rows[static_cast<int>(TileForm::kHalves)] = MakeTileRows<TileForm::kHalves>;
  set.make_rows[static_cast<int>(TileForm::kSingle)] = MakeTileRows<TileForm::kSingle>;
  set.make_rows[static_cast<int>(TileForm::kSingleHalves)] = MakeTileRows<TileForm::kSingleHalves>;
  set.enter = EnterTiles;
  set.leave = LeaveTiles;
  return set;
}
constexpr ManyRowsSet kManyRows = MakeManyRows();

constexpr WideForm kWideByBytes = {kWideTileRows,     kWideTileBlocks, sizeof(WideRowBytes),
                                   MultiplyWideBytes, MakeWideRows,    EnterTiles,
                                   LeaveTiles};

}  // namespace
}  // namespace pregate

#pragma GCC pop_options

namespace pregate {
namespace {

const TileSet& Tiles() {
  static const TileSet tiles = [] {
    TileSet set = TilesAvx512Vnni();
    set.many_rows = &kManyRows;
    set.wide = kWideByBytes;
    return set;
  }();
  return tiles;
}

void Pack(Device& device, ConstTensor weight, bool by_tiles, void* out) {
  if (weight.dtype == DType::kQ13) return PackWide(device, weight, SetWideBytes, out);
  PackPanels(device, kLanes, weight, by_tiles, out);
}

void Matmul(Device& device, absl::Span<const Product> products) {
  RunMatmul(device, Tiles(), products);
}

}  // namespace

void FillMatmulAmx(Kernels* table) {
  FillMatmulAvx512Vnni(table);
  table->pack = Pack;
  table->matmul = Matmul;
}

}  // namespace pregate
