#include "engine/model/neuron_tiles.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/model/random_model.h"

namespace pregate {
namespace {

// Owners of `neurons` neurons of which each of `experts` owns the `share` it likes best. How much
// they like a neuron is partly the same for all: with `own_taste` 0.85, 7 experts of half the
// neurons overlap as those of readme-moe's pilot do (any two share 70 %, all of them 32 %).
std::vector<uint64_t> MakeOwners(int neurons, int experts, double share, double own_taste) {
  const auto normal = [](const std::string& name, int i) {
    double sum = 0;
    for (int k = 0; k < 12; ++k) sum += RandomElement(name, static_cast<uint64_t>(12 * i + k));
    return sum / 2;
  };
  std::vector<uint64_t> owners(static_cast<size_t>(neurons), 0);
  for (int e = 0; e < experts; ++e) {
    std::vector<double> score;
    for (int f = 0; f < neurons; ++f) {
      score.push_back(normal("all", f) + own_taste * normal(absl::StrCat("expert", e), f));
    }
    std::vector<int> order(owners.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int a, int b) {
      return score[static_cast<size_t>(a)] > score[static_cast<size_t>(b)];
    });
    order.resize(static_cast<size_t>(std::lround(share * neurons)));
    for (const int f : order) owners[static_cast<size_t>(f)] |= uint64_t{1} << e;
  }
  return owners;
}

int64_t Owned(const std::vector<uint64_t>& owners) {
  int64_t owned = 0;
  for (const uint64_t set : owners) owned += std::popcount(set);
  return owned;
}

// Every owner of a neuron uses one place of it, and nobody else any.
void ExpectEachNeuronOnceForEachOwner(const std::vector<uint64_t>& owners,
                                      const NeuronTiles& tiles) {
  ASSERT_EQ(tiles.neurons.size(), tiles.users.size());
  ASSERT_EQ(tiles.neurons.size() % kTileNeurons, 0u);
  std::vector<uint64_t> used(owners.size(), 0);
  for (size_t i = 0; i < tiles.neurons.size(); ++i) {
    if (tiles.neurons[i] < 0) {
      EXPECT_EQ(tiles.users[i], 0u);
      continue;
    }
    uint64_t& mine = used[static_cast<size_t>(tiles.neurons[i])];
    EXPECT_NE(tiles.users[i], 0u) << "a place for nobody";
    EXPECT_EQ(mine & tiles.users[i], 0u) << "neuron " << tiles.neurons[i] << " twice";
    mine |= tiles.users[i];
  }
  EXPECT_EQ(used, owners);
}

// What experts read beyond what they own.
double Overhead(const std::vector<uint64_t>& owners, const NeuronTiles& tiles, int experts) {
  size_t readings = 0;
  for (int e = 0; e < experts; ++e) readings += TilesOfExpert(tiles, e).tiles.size();
  return static_cast<double>(readings * kTileNeurons) / static_cast<double>(Owned(owners)) - 1;
}

struct Case {
  int neurons, experts;
  double share, own_taste;
  double max_overhead;  // seen, and a little more
};

TEST(NeuronTiles, KeepsEveryNeuronAndReadsLittleMore) {
  const Case cases[] = {
      {1536, 7, 0.5, 0.85, 0.12},    // as SmolLM2-135M
      {11008, 7, 0.5, 0.85, 0.005},  // as Llama-2-7B
      {384, 4, 1.0 / 3, 0.85, 0.1}, {131, 2, 0.5, 1.0, 0.46}, {4096, 16, 0.5, 0.85, 0.50},
      {2048, 64, 0.1, 0.85, 4.0},   {40, 1, 0.5, 1.0, 0.61},  {1, 1, 1.0, 1.0, 31.0},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(absl::StrCat(c.neurons, " neurons, ", c.experts, " experts"));
    const std::vector<uint64_t> owners = MakeOwners(c.neurons, c.experts, c.share, c.own_taste);
    const int64_t dense = (c.neurons + kTileNeurons - 1) / kTileNeurons;
    const NeuronTiles tiles = TileNeurons(owners, dense);
    ExpectEachNeuronOnceForEachOwner(owners, tiles);
    EXPECT_LE(tiles.tiles(), dense);
    const double overhead = Overhead(owners, tiles, c.experts);
    EXPECT_LE(overhead, c.max_overhead);
    printf("%5d neurons, %2d experts: %4ld tiles (dense %ld), read beyond what is owned: %.1f %%\n",
           c.neurons, c.experts, static_cast<long>(tiles.tiles()), static_cast<long>(dense),
           100 * overhead);
  }
}

TEST(NeuronTiles, MoreMemoryIsLessToRead) {
  const std::vector<uint64_t> owners = MakeOwners(1536, 7, 0.5, 0.85);
  double last = 1e9;
  for (const int64_t max_tiles : {0, 44, 48, 64}) {
    const double overhead = Overhead(owners, TileNeurons(owners, max_tiles), 7);
    EXPECT_LT(overhead, last) << max_tiles;
    last = overhead;
  }
}

// Masks without anything in common, and as much room as each neuron takes once.
TEST(NeuronTiles, NeedsNoMoreThanEachNeuronOnce) {
  const std::vector<uint64_t> owners = MakeOwners(1536, 7, 0.5, 1e6);
  const auto somebodys =
      std::count_if(owners.begin(), owners.end(), [](uint64_t s) { return s != 0; });
  const NeuronTiles tiles = TileNeurons(owners, 0);
  EXPECT_EQ(tiles.tiles(), (somebodys + kTileNeurons - 1) / kTileNeurons);
  ExpectEachNeuronOnceForEachOwner(owners, tiles);
}

TEST(NeuronTiles, MoreGroupsThanAreSearched) {
  std::vector<uint64_t> owners;
  for (uint64_t f = 0; f < 5000; ++f) owners.push_back((f + 1) * 0x9e3779b97f4a7c15u);
  ExpectEachNeuronOnceForEachOwner(owners, TileNeurons(owners, 5000));
}

TEST(NeuronTiles, NobodyOwnsAnything) {
  EXPECT_EQ(TileNeurons({}, 1).tiles(), 0);
  EXPECT_EQ(TileNeurons({0, 0, 0}, 1).tiles(), 0);
  EXPECT_TRUE(TilesOfExpert(TileNeurons({0, 0}, 1), 0).tiles.empty());
}

TEST(NeuronTiles, AnExpertsTilesAndPlaces) {
  // 32 neurons of both, 32 of the first, 3 of the second.
  std::vector<uint64_t> owners(67, 0b11);
  std::fill(owners.begin() + 32, owners.begin() + 64, 0b01);
  std::fill(owners.begin() + 64, owners.end(), 0b10);
  const NeuronTiles tiles = TileNeurons(owners, 3);
  ASSERT_EQ(tiles.tiles(), 3);
  const ExpertTiles first = TilesOfExpert(tiles, 0), second = TilesOfExpert(tiles, 1);
  EXPECT_EQ(first.tiles.size(), 2u);
  EXPECT_EQ(first.owned, (std::vector<uint32_t>{~0u, ~0u}));
  ASSERT_EQ(second.tiles.size(), 2u);
  EXPECT_TRUE(std::is_sorted(second.tiles.begin(), second.tiles.end()));
  EXPECT_EQ(second.owned, (std::vector<uint32_t>{~0u, 0b111}));
}

}  // namespace
}  // namespace pregate
