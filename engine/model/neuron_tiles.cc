#include "engine/model/neuron_tiles.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <numeric>
#include <utility>

namespace pregate {
namespace {

// Neurons by those of their owners that have no place for them yet. A group's own list, too, is in
// a fixed order, so that the result is one value on every machine.
using Groups = std::map<uint64_t, std::vector<int32_t>>;

// Up to this many experts, every set of them is tried as the readers of a tile; with more, a chain.
constexpr int32_t kMaxExhaustiveExperts = 8;
// Bounds the time that a chain takes. More different sets of owners than this share little anyway.
constexpr size_t kMaxGroups = 4096;

// Bounds the time that the order of tiles takes. A few passes are the rule.
constexpr int kMaxOrderPasses = 16;

// How many experts a set has. The search counts the same few small sets over and over.
int Count(uint64_t set) {
  static constexpr auto kSmall = [] {
    std::array<uint8_t, 256> counts{};
    for (unsigned i = 0; i < counts.size(); ++i) counts[i] = static_cast<uint8_t>(std::popcount(i));
    return counts;
  }();
  return set < kSmall.size() ? kSmall[set] : std::popcount(set);
}

// What a tile is worth to those who read it.
struct Prices {
  double another_place;  // of a neuron that needs another place for its other owners
  double tile;           // of a tile's memory, in readings of it
};
// What is tried; for each, the lowest price of a tile with which the tiles still fit is sought, in
// steps that halve what is left of the range: the lower it is, the less there is to read.
constexpr double kPlacePrices[] = {0.15, 0.3, 0.45, 0.6, 0.8, 1.0};
constexpr double kMaxTilePrice = 6.0;
constexpr int kTilePriceSteps = 5;
// For chains, which take longer.
constexpr Prices kChainPrices[] = {{1.0, 4.0}, {0.7, 1.0}};

// How many neurons a group has: what the search for a tile walks over, many times.
struct GroupSize {
  uint64_t owners;
  int64_t neurons;
};

// The worth of a tile that exactly `readers` read, filled with the best neurons that are left:
// places used by each, less the prices, for each reading.
double Worth(absl::Span<const GroupSize> groups, uint64_t readers, const Prices& prices) {
  const int experts = Count(readers);
  // Neurons by how many of the readers own them; those whose owners all read stand apart.
  int64_t complete[kMaxTiedExperts + 1] = {}, partial[kMaxTiedExperts + 1] = {};
  for (const auto& [owners, neurons] : groups) {
    const uint64_t users = owners & readers;
    (users == owners ? complete : partial)[Count(users)] += neurons;
  }
  int64_t room = kTileNeurons;
  double worth = 0;
  for (int users = experts; users > 0 && room > 0; --users) {
    const int64_t whole = std::min(room, complete[users]);
    room -= whole;
    const int64_t part = std::min(room, partial[users]);
    room -= part;
    worth += static_cast<double>(whole) * users +
             static_cast<double>(part) * (users - prices.another_place);
  }
  return worth / (experts + prices.tile);
}

// Keeps the best of what it is shown; the first of equals.
struct Best {
  uint64_t readers = 0;
  double worth = -1;
  void Offer(uint64_t candidate, double its_worth) {
    if (its_worth > worth + 1e-9) *this = {candidate, its_worth};
  }
};

// From the owners of one group to everyone, each time by those few whom some group adds.
uint64_t BestOfChain(absl::Span<const GroupSize> groups, uint64_t everyone, const Prices& prices) {
  uint64_t readers = 0;
  for (const auto& [owners, unused] : groups) {
    if (Count(owners) > Count(readers)) readers = owners;
  }
  Best best;
  best.Offer(readers, Worth(groups, readers, prices));
  while (readers != everyone) {
    uint64_t added = everyone & ~readers;
    for (const auto& [owners, unused] : groups) {
      const uint64_t more = owners & ~readers;
      if (more != 0 && Count(more) < Count(added)) added = more;
    }
    readers |= added;
    best.Offer(readers, Worth(groups, readers, prices));
  }
  return best.readers;
}

// The readers of the next tile.
uint64_t BestReaders(const Groups& groups, const Prices& prices) {
  std::vector<GroupSize> sizes;
  uint64_t everyone = 0;
  for (const auto& [owners, neurons] : groups) {
    sizes.push_back({owners, static_cast<int64_t>(neurons.size())});
    everyone |= owners;
  }
  if (std::bit_width(everyone) > kMaxExhaustiveExperts) return BestOfChain(sizes, everyone, prices);
  Best best;
  for (uint64_t readers = 1; readers <= everyone; ++readers) {
    if ((readers & ~everyone) == 0) best.Offer(readers, Worth(sizes, readers, prices));
  }
  return best.readers;
}

void AddPlaces(NeuronTiles& tiles, absl::Span<const int32_t> neurons, uint64_t users) {
  tiles.neurons.insert(tiles.neurons.end(), neurons.begin(), neurons.end());
  tiles.users.insert(tiles.users.end(), neurons.size(), users);
}

void PadTile(NeuronTiles& tiles) {
  const size_t end = (tiles.neurons.size() + kTileNeurons - 1) / kTileNeurons * kTileNeurons;
  tiles.neurons.resize(end, -1);
  tiles.users.resize(end, 0);
}

// Groups that fill tiles by themselves: nobody reads there what he does not own.
void TakeFullTiles(Groups& groups, NeuronTiles& tiles) {
  for (auto group = groups.begin(); group != groups.end();) {
    auto& [owners, neurons] = *group;
    const size_t full = neurons.size() / kTileNeurons * kTileNeurons;
    AddPlaces(tiles, absl::MakeConstSpan(neurons).first(full), owners);
    neurons.erase(neurons.begin(), neurons.begin() + static_cast<int64_t>(full));
    group = neurons.empty() ? groups.erase(group) : std::next(group);
  }
}

// One tile for `readers`: the neurons that most of them own, among these first the ones that then
// need no other place.
void TakeTile(Groups& groups, uint64_t readers, NeuronTiles& tiles) {
  std::vector<uint64_t> order;
  for (const auto& [owners, unused] : groups) {
    if ((owners & readers) != 0) order.push_back(owners);
  }
  const auto rank = [&](uint64_t owners) {
    return 2 * Count(owners & readers) + ((owners & ~readers) == 0 ? 1 : 0);
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](uint64_t a, uint64_t b) { return rank(a) > rank(b); });
  Groups elsewhere;
  size_t room = kTileNeurons;
  for (const uint64_t owners : order) {
    if (room == 0) break;
    const auto group = groups.find(owners);
    std::vector<int32_t>& neurons = group->second;
    const auto taken = static_cast<int64_t>(std::min(room, neurons.size()));
    room -= static_cast<size_t>(taken);
    AddPlaces(tiles, absl::MakeConstSpan(neurons).first(static_cast<size_t>(taken)),
              owners & readers);
    if (const uint64_t others = owners & ~readers; others != 0) {
      std::vector<int32_t>& later = elsewhere[others];
      later.insert(later.end(), neurons.begin(), neurons.begin() + taken);
    }
    neurons.erase(neurons.begin(), neurons.begin() + taken);
    if (neurons.empty()) groups.erase(group);
  }
  for (const auto& [owners, neurons] : elsewhere) {
    std::vector<int32_t>& group = groups[owners];
    group.insert(group.end(), neurons.begin(), neurons.end());
  }
  PadTile(tiles);
}

NeuronTiles Cover(Groups groups, const Prices& prices) {
  NeuronTiles tiles;
  TakeFullTiles(groups, tiles);
  while (!groups.empty()) {
    TakeTile(groups, BestReaders(groups, prices), tiles);
    TakeFullTiles(groups, tiles);
  }
  return tiles;
}

// Every neuron at one place, in the order of their owners: as few tiles as there can be.
NeuronTiles OrderByOwners(const Groups& groups) {
  NeuronTiles tiles;
  for (const auto& [owners, neurons] : groups) AddPlaces(tiles, neurons, owners);
  PadTile(tiles);
  return tiles;
}

// Lets experts go from tiles of which they use little: what they use there moves to tiles that they
// read anyway.
class Pruning {
 public:
  explicit Pruning(NeuronTiles tiles)
      : tiles_(std::move(tiles)), readers_(ReadersOfTiles(tiles_)) {}

  NeuronTiles Run() {
    for (int pass = 0; pass < kMaxPruningPasses && Pass(); ++pass) {
    }
    return std::move(tiles_);
  }

 private:
  struct Place {
    int32_t neuron;
    uint64_t users;
  };

  // Whether anybody could go. Who uses least is tried first.
  bool Pass() {
    std::array<std::vector<std::pair<size_t, int>>, kMostToMove + 1> by_use;  // tile, expert
    for (size_t tile = 0; tile < readers_.size(); ++tile) {
      for (uint64_t set = readers_[tile]; set != 0; set &= set - 1) {
        const int expert = std::countr_zero(set);
        size_t used = 0;
        for (size_t i = 0; i < kTileNeurons; ++i) {
          used += tiles_.users[tile * kTileNeurons + i] >> expert & 1;
        }
        if (used <= kMostToMove) by_use[used].emplace_back(tile, expert);
      }
    }
    bool any = false;
    for (const auto& uses : by_use) {
      for (const auto& [tile, expert] : uses) any |= LetGo(tile, expert);
    }
    return any;
  }

  bool LetGo(size_t tile, int expert) {
    before_.clear();
    for (size_t i = tile * kTileNeurons; i < (tile + 1) * kTileNeurons; ++i) {
      if ((tiles_.users[i] >> expert & 1) == 0 || Move(i, expert)) continue;
      for (; !before_.empty(); before_.pop_back()) {
        const auto& [at, place] = before_.back();
        tiles_.neurons[at] = place.neuron;
        tiles_.users[at] = place.users;
      }
      return false;
    }
    readers_[tile] &= ~(uint64_t{1} << expert);
    return true;
  }

  // Finds the expert another place for the neuron at `from`: one that the neuron has already, a
  // free one for all of its users or for the expert alone, or one in exchange with a neuron of
  // others.
  bool Move(size_t from, int expert) {
    const auto [neuron, users] = At(from);
    const uint64_t me = uint64_t{1} << expert;
    const uint64_t others = readers_[from / kTileNeurons] & ~me;
    enum : int { kKnown, kFree, kFreeForMe, kExchange, kNone };
    int best = kNone;
    size_t to = 0;
    for (size_t tile = 0; tile < readers_.size() && best != kKnown; ++tile) {
      if (tile == from / kTileNeurons || (readers_[tile] & me) == 0) continue;
      const bool all_read = (users & ~readers_[tile]) == 0;
      for (size_t i = tile * kTileNeurons; i < (tile + 1) * kTileNeurons; ++i) {
        const auto [there, its_users] = At(i);
        const int way = there == neuron                          ? kKnown
                        : its_users == 0                         ? (all_read ? kFree : kFreeForMe)
                        : all_read && (its_users & ~others) == 0 ? kExchange
                                                                 : kNone;
        if (way < best) {
          best = way;
          to = i;
        }
      }
    }
    const Place target = At(to);
    switch (best) {
      case kKnown:
        Set(to, {neuron, target.users | me});
        Set(from, {neuron, users & ~me});
        return true;
      case kFree:
      case kExchange:
        Set(to, {neuron, users});
        Set(from, target);
        return true;
      case kFreeForMe:
        Set(to, {neuron, me});
        Set(from, {neuron, users & ~me});
        return true;
      default:
        return false;
    }
  }

  Place At(size_t i) const { return {tiles_.neurons[i], tiles_.users[i]}; }
  void Set(size_t i, Place place) {
    before_.emplace_back(i, At(i));
    tiles_.neurons[i] = place.users == 0 ? -1 : place.neuron;
    tiles_.users[i] = place.users;
  }

  // Neurons in a tile that move for an expert at most, and rounds: bounds of the time.
  static constexpr size_t kMostToMove = 24;
  static constexpr int kMaxPruningPasses = 8;

  NeuronTiles tiles_;
  std::vector<uint64_t> readers_;
  std::vector<std::pair<size_t, Place>> before_;  // of the expert at hand
};

// Tiles that experts read, all experts together.
int64_t Readings(const NeuronTiles& tiles) {
  int64_t readings = 0;
  for (const uint64_t set : ReadersOfTiles(tiles)) readings += Count(set);
  return readings;
}

// An order in which neighbours have readers in common, so that each expert reads few long runs:
// from each tile to the nearest, then turned around piece by piece while that makes it shorter
// (2-opt: Croes, "A method for solving traveling-salesman problems", 1958).
std::vector<size_t> OrderTiles(std::vector<uint64_t> readers) {
  // From nobody to nobody: a run begins and ends at an end, too.
  const size_t tiles = readers.size();
  readers.insert(readers.end(), 2, 0);
  std::vector<size_t> order(tiles + 2);
  std::iota(order.begin() + 1, order.end(), size_t{0});
  order[0] = tiles + 1;
  const auto distance = [&](size_t i, size_t j) {
    return Count(readers[order[i]] ^ readers[order[j]]);
  };
  for (size_t i = 1; i <= tiles; ++i) {
    size_t nearest = i;
    for (size_t j = i + 1; j <= tiles; ++j) {
      if (distance(i - 1, j) < distance(i - 1, nearest)) nearest = j;
    }
    std::swap(order[i], order[nearest]);
  }
  bool shorter = true;
  for (int pass = 0; pass < kMaxOrderPasses && shorter; ++pass) {
    shorter = false;
    for (size_t i = 1; i + 1 < order.size(); ++i) {
      for (size_t j = i + 1; j + 1 < order.size(); ++j) {
        const int saved =
            distance(i - 1, i) + distance(j, j + 1) - distance(i - 1, j) - distance(i, j + 1);
        if (saved <= 0) continue;
        std::reverse(order.begin() + static_cast<int64_t>(i),
                     order.begin() + static_cast<int64_t>(j) + 1);
        shorter = true;
      }
    }
  }
  order.pop_back();
  order.erase(order.begin());
  return order;
}

NeuronTiles Reordered(const NeuronTiles& tiles) {
  NeuronTiles ordered;
  for (const size_t tile : OrderTiles(ReadersOfTiles(tiles))) {
    const auto first = static_cast<int64_t>(tile) * kTileNeurons;
    ordered.neurons.insert(ordered.neurons.end(), tiles.neurons.begin() + first,
                           tiles.neurons.begin() + first + kTileNeurons);
    ordered.users.insert(ordered.users.end(), tiles.users.begin() + first,
                         tiles.users.begin() + first + kTileNeurons);
  }
  return ordered;
}

}  // namespace

std::vector<uint64_t> ReadersOfTiles(const NeuronTiles& tiles) {
  std::vector<uint64_t> readers(static_cast<size_t>(tiles.tiles()), 0);
  for (size_t i = 0; i < tiles.users.size(); ++i) readers[i / kTileNeurons] |= tiles.users[i];
  return readers;
}

NeuronTiles TileNeurons(absl::Span<const uint64_t> owners, int64_t max_tiles) {
  Groups groups;
  uint64_t everyone = 0;
  for (size_t f = 0; f < owners.size(); ++f) {
    if (owners[f] != 0) groups[owners[f]].push_back(static_cast<int32_t>(f));
    everyone |= owners[f];
  }
  NeuronTiles best = OrderByOwners(groups);
  if (groups.size() > kMaxGroups) return best;  // neighbours are alike already
  // Whether the tiles fit that these prices lead to.
  const auto fits = [&](const Prices& prices) {
    NeuronTiles cover = Cover(groups, prices);
    if (cover.tiles() > max_tiles) return false;
    if (Readings(cover) < Readings(best)) best = std::move(cover);
    return true;
  };
  if (std::bit_width(everyone) > kMaxExhaustiveExperts) {
    for (const Prices& prices : kChainPrices) fits(prices);
    return Reordered(Pruning(std::move(best)).Run());
  }
  for (const double place : kPlacePrices) {
    double low = 0, high = kMaxTilePrice;
    for (int step = 0; step < kTilePriceSteps; ++step) {
      const double middle = (low + high) / 2;
      (fits({place, middle}) ? high : low) = middle;
    }
  }
  return Reordered(Pruning(std::move(best)).Run());
}

ExpertTiles TilesOfExpert(const NeuronTiles& tiles, int32_t expert) {
  ExpertTiles mine;
  for (int64_t t = 0; t < tiles.tiles(); ++t) {
    uint32_t owned = 0;
    for (int32_t i = 0; i < kTileNeurons; ++i) {
      const uint64_t users = tiles.users[static_cast<size_t>(t * kTileNeurons + i)];
      owned |= static_cast<uint32_t>(users >> expert & 1) << i;
    }
    if (owned == 0) continue;
    mine.tiles.push_back(static_cast<int32_t>(t));
    mine.owned.push_back(owned);
  }
  return mine;
}

}  // namespace pregate
