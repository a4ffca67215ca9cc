// Tiles that come and go together: every one of them once, with little that nobody needs.
#include "engine/model/tile_units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <random>

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

TEST(TileUnits, FewSetsStayApart) {
  const TileUnits units = GroupTiles({{1, 500}, {2, 500}, {3, 200}, {6, 300}, {7, 90}}, 3);
  EXPECT_THAT(units.experts, ElementsAre(1, 2, 3, 6, 7));
  EXPECT_THAT(units.unit_of,
              ElementsAre(Pair(1, 0), Pair(2, 1), Pair(3, 2), Pair(6, 3), Pair(7, 4)));
}

TEST(TileUnits, WhatIsRareJoinsItsLikes) {
  const TileUnits units = GroupTiles({{1, 5000}, {3, 5000}, {2, 5000}, {5, 1}, {7, 8}, {8, 99}}, 4);
  // {0, 2} joins {0, 1, 2}, which is nobody's loss but expert 1's.
  EXPECT_THAT(units.experts, ElementsAre(1, 2, 3, 7, 8));
  EXPECT_EQ(units.unit_of.at(5), units.unit_of.at(7));
}

// Seven experts that own half of all neurons each: every set of them reads some tile.
TEST(TileUnits, ManySetsBecomeFewUnits) {
  for (const int32_t experts : {2, 7, 13}) {
    std::mt19937 random(static_cast<uint32_t>(experts));
    const uint64_t everyone = (uint64_t{1} << experts) - 1;
    std::map<uint64_t, int64_t> tiles;
    for (int i = 0; i < 3000; ++i) ++tiles[random() & random() & everyone];
    for (int i = 0; i < 3000; ++i) ++tiles[(random() | random()) & everyone];
    tiles.erase(0);
    tiles[everyone] += 5;
    const TileUnits units = GroupTiles(tiles, experts);
    EXPECT_TRUE(std::is_sorted(units.experts.begin(), units.experts.end()));
    EXPECT_EQ(std::adjacent_find(units.experts.begin(), units.experts.end()), units.experts.end());
    EXPECT_LE(units.experts.size(), kMaxTileUnits + 1);
    int64_t read = 0, loaded = 0;
    for (const auto& [set, count] : tiles) {
      const uint64_t who = units.experts[static_cast<size_t>(units.unit_of.at(set))];
      EXPECT_EQ(set & ~who, 0u);
      EXPECT_EQ(who == everyone, set == everyone) << set;
      read += count * std::popcount(set);
      loaded += count * std::popcount(who);
    }
    EXPECT_LT(static_cast<double>(loaded), 1.6 * static_cast<double>(read)) << experts;
    std::printf("%d experts: %zu sets, %zu units, loads %.3f of what is read\n", experts,
                tiles.size(), units.experts.size(),
                static_cast<double>(loaded) / static_cast<double>(read));
  }
}

TEST(TileUnits, OrderKeepsEveryTileAndTheRunsOfUnits) {
  std::mt19937 random(3);
  std::vector<uint64_t> owners(1500);
  for (uint64_t& set : owners) set = random() & 127;
  const NeuronTiles tiles = TileNeurons(owners, 60);
  std::map<uint64_t, int64_t> count;
  for (const uint64_t set : ReadersOfTiles(tiles)) ++count[set];
  const TileUnits units = GroupTiles(count, 7);
  NeuronTiles ordered = tiles;
  const auto runs = OrderByUnit(units, ordered);
  const std::vector<uint64_t> readers = ReadersOfTiles(ordered);
  size_t tile = 0;
  std::vector<int32_t> seen;
  for (const auto& [unit, length] : runs) {
    seen.push_back(unit);
    for (int64_t i = 0; i < length; ++i) EXPECT_EQ(units.unit_of.at(readers[tile++]), unit);
  }
  EXPECT_EQ(tile, readers.size());
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
  const auto places = [](const NeuronTiles& all) {
    std::vector<std::pair<int32_t, uint64_t>> sorted;
    for (size_t i = 0; i < all.users.size(); ++i) {
      sorted.emplace_back(all.neurons[i], all.users[i]);
    }
    std::sort(sorted.begin(), sorted.end());
    return sorted;
  };
  EXPECT_EQ(places(ordered), places(tiles));
}

}  // namespace
}  // namespace pregate
