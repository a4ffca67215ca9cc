#include "engine/model/tile_units.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <numeric>
#include <utility>

namespace pregate {
namespace {

// Bounds the time that merging takes: rarer sets join one of these at once.
constexpr size_t kMaxMerged = 256;
// Of all tiles that experts load: what a merge may add although there are few units already.
constexpr double kFreeMerge = 0.002;

struct Group {
  uint64_t experts;
  int64_t tiles;
  std::vector<uint64_t> sets;
};

int64_t Readings(const Group& group) { return group.tiles * std::popcount(group.experts); }

// Tiles that experts load in vain if the two are one.
int64_t Loss(const Group& a, const Group& b) {
  return (a.tiles + b.tiles) * std::popcount(a.experts | b.experts) - Readings(a) - Readings(b);
}

void Join(Group& into, const Group& other) {
  into.experts |= other.experts;
  into.tiles += other.tiles;
  into.sets.insert(into.sets.end(), other.sets.begin(), other.sets.end());
}

// Merges those two that lose least; false: none may, or it would lose too much.
bool MergeOnce(std::vector<Group>& groups, uint64_t everyone, double free_loss) {
  size_t best_a = 0, best_b = 0;
  int64_t least = -1;
  for (size_t a = 0; a < groups.size(); ++a) {
    for (size_t b = a + 1; b < groups.size(); ++b) {
      if ((groups[a].experts | groups[b].experts) == everyone) continue;
      const int64_t loss = Loss(groups[a], groups[b]);
      if (least >= 0 && loss >= least) continue;
      least = loss;
      best_a = a;
      best_b = b;
    }
  }
  if (least < 0) return false;
  if (groups.size() <= kMaxTileUnits && static_cast<double>(least) > free_loss) return false;
  Join(groups[best_a], groups[best_b]);
  groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(best_b));
  return true;
}

}  // namespace

TileUnits GroupTiles(const std::map<uint64_t, int64_t>& tiles, int32_t num_experts) {
  const uint64_t everyone = ~uint64_t{0} >> (64 - num_experts);
  std::vector<Group> sets, groups, pinned;
  int64_t readings = 0;
  for (const auto& [experts, count] : tiles) {
    (experts == everyone ? pinned : sets).push_back({experts, count, {experts}});
    readings += count * std::popcount(experts);
  }
  std::stable_sort(sets.begin(), sets.end(),
                   [](const Group& a, const Group& b) { return a.tiles > b.tiles; });
  for (Group& set : sets) {
    Group* nearest = nullptr;
    for (Group& group : groups) {
      if ((group.experts | set.experts) == everyone) continue;
      if (nearest == nullptr || Loss(group, set) < Loss(*nearest, set)) nearest = &group;
    }
    if (groups.size() < kMaxMerged || nearest == nullptr) {
      groups.push_back(std::move(set));
    } else {
      Join(*nearest, set);
    }
  }
  while (MergeOnce(groups, everyone, kFreeMerge * static_cast<double>(readings))) {
  }
  groups.insert(groups.end(), pinned.begin(), pinned.end());
  std::sort(groups.begin(), groups.end(),
            [](const Group& a, const Group& b) { return a.experts < b.experts; });
  TileUnits units;
  for (const Group& group : groups) {
    for (const uint64_t set : group.sets) {
      units.unit_of[set] = static_cast<int32_t>(units.experts.size());
    }
    units.experts.push_back(group.experts);
  }
  return units;
}

std::vector<std::pair<int32_t, int64_t>> OrderByUnit(const TileUnits& units, NeuronTiles& tiles) {
  const std::vector<uint64_t> readers = ReadersOfTiles(tiles);
  std::vector<size_t> left(readers.size());
  std::iota(left.begin(), left.end(), size_t{0});
  std::vector<int32_t> unit_of;
  for (const uint64_t set : readers) unit_of.push_back(units.unit_of.at(set));
  std::vector<std::pair<int32_t, int64_t>> runs;
  NeuronTiles ordered;
  uint64_t last = 0;
  const auto comes_before = [&](size_t a, size_t b) {
    // The unit is finished first, then whoever has most readers in common with the tile before.
    const auto rank = [&](size_t tile) {
      const bool another = runs.empty() || unit_of[tile] != runs.back().first;
      return std::make_pair(another, std::popcount(readers[tile] ^ last));
    };
    return rank(a) < rank(b);
  };
  while (!left.empty()) {
    const auto next = std::min_element(left.begin(), left.end(), comes_before);
    const auto first = static_cast<std::ptrdiff_t>(*next * kTileNeurons);
    const auto copy = [first](const auto& from, auto& to) {
      to.insert(to.end(), from.begin() + first, from.begin() + first + kTileNeurons);
    };
    copy(tiles.neurons, ordered.neurons);
    copy(tiles.users, ordered.users);
    if (runs.empty() || runs.back().first != unit_of[*next]) runs.emplace_back(unit_of[*next], 0);
    ++runs.back().second;
    last = readers[*next];
    left.erase(next);
  }
  tiles = std::move(ordered);
  return runs;
}

}  // namespace pregate
