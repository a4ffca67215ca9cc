// Products over lists of tiles and many products in one call: each gives, bit for bit, what it
// gives alone and over a weight that holds the picked rows and columns only.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/weight_test.h"
#include "tests/kernels/weights.h"

namespace pregate {
namespace {

using Tiles = std::vector<int32_t>;

// One, all, odd ones, the first and last, runs; of six tiles.
const std::vector<Tiles> kTileLists = {{},           {0},       {5},       {0, 1, 2, 3, 4, 5},
                                       {1, 3, 4, 5}, {0, 2, 5}, {2, 3, 4}, {0, 1, 4}};
constexpr int64_t kTiles = 6;
constexpr int64_t kSide = 32 * kTiles;  // rows and columns of a weight

// How many of `all` rows or columns a list picks.
int64_t Picked(const Tiles& tiles, int64_t all) {
  return tiles.empty() ? all : 32 * static_cast<int64_t>(tiles.size());
}

// The rows and columns of a weight that lists pick; an empty list picks all.
GuardedMatrix PickTiles(const GuardedMatrix& weight, const Tiles& out_tiles,
                        const Tiles& in_tiles) {
  const Tensor& w = weight.view();
  const int64_t rows = Picked(out_tiles, w.rows), cols = Picked(in_tiles, w.cols);
  GuardedMatrix result(w.dtype, rows, cols);
  for (int64_t n = 0; n < rows; ++n) {
    const int64_t from =
        out_tiles.empty() ? n : 32 * out_tiles[static_cast<size_t>(n / 32)] + n % 32;
    const char* source = w.Row<char>(from);
    char* row = result.view().Row<char>(n);
    if (in_tiles.empty()) {
      std::memcpy(row, source, static_cast<size_t>(RowBytes(w.dtype, cols)));
      continue;
    }
    const int64_t bytes = RowBytes(w.dtype, 32);
    for (const int32_t tile : in_tiles) {
      std::memcpy(row, source + tile * bytes, static_cast<size_t>(bytes));
      row += bytes;
    }
  }
  return result;
}

class GroupedMatmulTest : public WeightTest {
 protected:
  // Whether lists may pick columns.
  bool TakesInTiles() const { return GetDTypeInfo(dtype()).block_elements <= 32; }
  int64_t Depth() const { return TakesInTiles() ? kSide : 512; }

  // A call's products with the memory that they read and write.
  struct Call {
    std::vector<GuardedMatrix> x, out;
    std::vector<Tiles> lists;
    std::vector<Product> products;
  };
  void Add(DType type, const PackedWeight& weight, const Tiles& out_tiles, const Tiles& in_tiles,
           int64_t rows, Call* call) {
    const uint64_t seed = 100 + call->x.size();
    call->x.push_back(RandomActivations(type, rows, Picked(in_tiles, weight.cols), seed));
    call->out.emplace_back(DType::kF32, rows, Picked(out_tiles, weight.rows));
    call->lists.push_back(out_tiles);
    call->lists.push_back(in_tiles);
    const auto lists = call->lists.rbegin();
    call->products.push_back({.x = call->x.back().view(),
                              .weight = weight,
                              .out_tiles = lists[1],
                              .in_tiles = lists[0],
                              .out = call->out.back().view()});
  }
  // Experts of a tied layer, by rows and columns, with as many rows as `rows` says, beside products
  // of other weights.
  Call MakeCall(DType type, const std::vector<PackedMatrix>& weights,
                const std::vector<int64_t>& rows) {
    Call call;
    for (size_t i = 0; i < rows.size(); ++i) {
      const Tiles& tiles = kTileLists[i % kTileLists.size()];
      Add(type, weights[0].view(), tiles, {}, rows[i], &call);
      if (TakesInTiles()) Add(type, weights[1].view(), {}, tiles, rows[i], &call);
      Add(type, weights[2 + i % 2].view(), {}, {}, rows[i], &call);
    }
    return call;
  }
  std::vector<PackedMatrix> MakePacked() {
    std::vector<PackedMatrix> weights;
    for (uint64_t i = 0; i < 4; ++i)
      weights.push_back(Pack(MakeWeights(dtype(), kSide, Depth(), i), i == 1 && TakesInTiles()));
    return weights;
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, GroupedMatmulTest, TablesAndTypes(), TableAndTypeName);

TEST_P(GroupedMatmulTest, ListsPickRowsAndColumns) {
  if (AnotherTypeWillDo()) GTEST_SKIP() << "another type of this kind is taken";
  const GuardedMatrix weight = MakeWeights(dtype(), kSide, Depth(), 1);
  // On a slow table as many as reach each of its kernels with each kind of list.
  const std::vector<int64_t> all_rows = {1, 3, 8, 9, 21, 70}, few_rows = {1, 35};
  for (const bool columns : {false, true}) {
    if (columns && !TakesInTiles()) continue;
    const PackedMatrix packed = Pack(weight, columns);
    EXPECT_TRUE(packed.GuardIntact());
    for (const Tiles& tiles : kTileLists) {
      if (table().slow && tiles.size() != 4) continue;
      const Tiles out_tiles = columns ? Tiles() : tiles, in_tiles = columns ? tiles : Tiles();
      const PackedMatrix picked = Pack(PickTiles(weight, out_tiles, in_tiles));
      for (const DType type : ActivationTypes()) {
        for (const int64_t rows : table().slow ? few_rows : all_rows) {
          Call call;
          Add(type, packed.view(), out_tiles, in_tiles, rows, &call);
          kernels().matmul(*device_, call.products);
          GuardedMatrix want(DType::kF32, rows, picked.view().rows);
          kernels().matmul(*device_,
                           {{.x = call.x[0].view(), .weight = picked.view(), .out = want.view()}});
          ASSERT_TRUE(call.out[0].SameBits(want)) << rows << " rows, " << tiles.size()
                                                  << " tiles of " << (columns ? "columns" : "rows");
        }
      }
    }
  }
}

TEST_P(GroupedMatmulTest, ManyProductsAreProductsAlone) {
  if (AnotherTypeWillDo()) GTEST_SKIP() << "another type of this kind is taken";
  const std::vector<PackedMatrix> weights = MakePacked();
  // Few rows, which share a weight's panels; none; many, which do not; many that leave out columns
  // between theirs which others want.
  const std::vector<std::vector<int64_t>> all_cases = {{1, 1, 1, 1, 1, 1, 1},
                                                       {2, 0, 5, 9, 0, 1, 16, 3},
                                                       {150, 1, 300, 200, 70, 0, 40},
                                                       {20, 0, 0, 0, 0, 250}};
  // On a slow table products of one call that take different kernels, and empty ones.
  const std::vector<std::vector<int64_t>> cases =
      table().slow ? std::vector<std::vector<int64_t>>{{2, 0, 33}} : all_cases;
  for (const DType type : ActivationTypes()) {
    for (const std::vector<int64_t>& rows : cases) {
      const Call alone = MakeCall(type, weights, rows);
      for (const Product& product : alone.products) kernels().matmul(*device_, {product});
      for (const int threads : {1, 2, 5}) {
        if (table().slow && threads > 1) break;
        const std::unique_ptr<Device> device = MakeDevice(threads);
        const Call together = MakeCall(type, weights, rows);
        kernels().matmul(*device, together.products);
        for (size_t i = 0; i < together.out.size(); ++i) {
          ASSERT_TRUE(together.out[i].SameBits(alone.out[i]))
              << "product " << i << ", " << rows[i / 3] << " rows, " << threads << " threads";
        }
      }
    }
  }
}

// The law of a row, for an expert's rows: alone, with others, at any place.
TEST_P(GroupedMatmulTest, RowsOfAnExpertAreIndependent) {
  if (AnotherTypeWillDo()) GTEST_SKIP() << "another type of this kind is taken";
  const std::vector<PackedMatrix> weights = MakePacked();
  const Tiles tiles = {0, 2, 3, 5};
  for (const bool columns : {false, true}) {
    if (columns && !TakesInTiles()) continue;
    const int64_t width = columns ? kSide : 32 * 4;
    const GuardedMatrix x = RandomMatrix(70, columns ? 32 * 4 : Depth(), 31);
    for (const DType type : ActivationTypes()) {
      const auto multiply = [&](int64_t first, int64_t rows) {
        const GuardedMatrix some = Activations(type, SomeRows(x, first, rows));
        GuardedMatrix out(DType::kF32, rows, width);
        kernels().matmul(*device_, {{.x = some.view(),
                                     .weight = weights[columns ? 1 : 0].view(),
                                     .out_tiles = columns ? Tiles() : tiles,
                                     .in_tiles = columns ? tiles : Tiles(),
                                     .out = out.view()}});
        return out;
      };
      const GuardedMatrix whole = multiply(0, 70);
      for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 33}) {
        if (table().slow && rows != 1 && rows != 9) continue;
        const GuardedMatrix part = multiply(70 - rows, rows);
        for (int64_t r = 0; r < rows; ++r) {
          const auto bytes = static_cast<size_t>(width) * sizeof(float);
          ASSERT_EQ(std::memcmp(part.Row(r), whole.Row(70 - rows + r), bytes), 0)
              << "row " << r << " of " << rows;
        }
      }
    }
  }
}

TEST_P(GroupedMatmulTest, AccumulateAddsToWhatIsThere) {
  if (AnotherTypeWillDo()) GTEST_SKIP() << "another type of this kind is taken";
  const std::vector<PackedMatrix> weights = MakePacked();
  for (const DType type : ActivationTypes()) {
    for (const int64_t rows : {1, 3, 30}) {
      if (table().slow && rows == 3) continue;
      Call plain, added;
      for (Call* call : {&plain, &added}) Add(type, weights[0].view(), {1, 4}, {}, rows, call);
      const GuardedMatrix before = RandomMatrix(rows, 64, 41, 20.0f);
      for (int64_t r = 0; r < rows; ++r) {
        std::copy_n(before.Row(r), 64, added.out[0].view().Row<float>(r));
      }
      added.products[0].accumulate = true;
      kernels().matmul(*device_, plain.products);
      kernels().matmul(*device_, added.products);
      EXPECT_TRUE(added.out[0].GuardsIntact());
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t n = 0; n < 64; ++n) {
          const double a = before.Row(r)[n], b = plain.out[0].Row(r)[n];
          ASSERT_NEAR(added.out[0].Row(r)[n], a + b, kEpsilon * (std::fabs(a) + std::fabs(b)));
        }
      }
    }
  }
}

}  // namespace
}  // namespace pregate
