#include "engine/model/read_me_pool.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace pregate {
namespace {

uint64_t Mix(uint64_t hash, uint64_t bits) {
  return (std::rotl(hash, 23) ^ bits) * 0x9e3779b97f4a7c15u;
}

int64_t ElementBytes(DType dtype) { return RowBytes(dtype, 1); }

// Runs `body` with a zero of the unsigned type of an element's bits.
template <typename Body>
void WithBits(DType dtype, const Body& body) {
  if (ElementBytes(dtype) == 2) return body(uint16_t{0});
  assert(ElementBytes(dtype) == 4);
  body(uint32_t{0});
}

// Hashes of each neuron's weights. Matrices are walked along their rows, as they lie in the file.
std::vector<uint64_t> HashNeurons(const FfnPart& part) {
  std::vector<uint64_t> hashes(part.owners.size(), 0);
  for (const ConstTensor& rows : {part.gate, part.up}) {
    WithBits(rows.dtype, [&](auto zero) {
      for (int64_t n = 0; n < rows.rows; ++n) {
        const auto* row = rows.Row<decltype(zero)>(n);
        uint64_t& hash = hashes[static_cast<size_t>(n)];
        for (int64_t i = 0; i < rows.cols; ++i) hash = Mix(hash, row[i]);
      }
    });
  }
  WithBits(part.down.dtype, [&](auto zero) {
    for (int64_t r = 0; r < part.down.rows; ++r) {
      const auto* row = part.down.Row<decltype(zero)>(r);
      for (size_t n = 0; n < hashes.size(); ++n) hashes[n] = Mix(hashes[n], row[n]);
    }
  });
  return hashes;
}

bool EqualRows(ConstTensor a, int64_t row_a, ConstTensor b, int64_t row_b) {
  const auto bytes = static_cast<size_t>(RowBytes(a.dtype, a.cols));
  return std::memcmp(a.Row<char>(row_a), b.Row<char>(row_b), bytes) == 0;
}

// Neuron `mine` of the part at hand may be neuron `theirs` of the pool.
struct Match {
  int32_t mine;
  int32_t theirs;
  bool equal;
};

class Tying {
 public:
  explicit Tying(absl::Span<const FfnPart> parts) : parts_(parts) {}

  void Add(int32_t part) {
    const std::vector<uint64_t> hashes = HashNeurons(Part(part));
    std::vector<Match> matches = FindMatches(part, hashes);
    Compare(part, matches);
    std::vector<int32_t> home(hashes.size(), -1);  // in the pool
    for (const Match& match : matches) {
      if (match.equal) home[static_cast<size_t>(match.mine)] = match.theirs;
    }
    for (size_t n = 0; n < hashes.size(); ++n) {
      const uint64_t owners = Part(part).owners[n];
      if (home[n] >= 0) {
        pool_.owners[static_cast<size_t>(home[n])] |= owners;
        continue;
      }
      by_hash_[hashes[n]].push_back(static_cast<int32_t>(pool_.neurons.size()));
      pool_.neurons.push_back({part, static_cast<int32_t>(n)});
      pool_.owners.push_back(owners);
    }
  }

  NeuronPool& pool() { return pool_; }

 private:
  const FfnPart& Part(int32_t part) const { return parts_[static_cast<size_t>(part)]; }

  // Neurons of the pool with the same hash, none of whose owners is the neuron's own already: an
  // expert that holds a neuron twice keeps it twice.
  std::vector<Match> FindMatches(int32_t part, const std::vector<uint64_t>& hashes) const {
    std::vector<Match> matches;
    std::vector<uint8_t> taken(pool_.neurons.size(), 0);
    for (size_t n = 0; n < hashes.size(); ++n) {
      const auto found = by_hash_.find(hashes[n]);
      if (found == by_hash_.end()) continue;
      for (const int32_t theirs : found->second) {
        const auto index = static_cast<size_t>(theirs);
        if (taken[index] || (pool_.owners[index] & Part(part).owners[n]) != 0) continue;
        taken[index] = 1;
        matches.push_back({static_cast<int32_t>(n), theirs, true});
        break;
      }
    }
    return matches;
  }

  // Finds out which matches are equal indeed: hashes alone prove nothing.
  void Compare(int32_t part, std::vector<Match>& matches) const {
    const FfnPart& mine = Part(part);
    for (Match& match : matches) {
      const NeuronPool::Source& source = Theirs(match);
      const FfnPart& theirs = Part(source.part);
      match.equal = EqualRows(mine.gate, match.mine, theirs.gate, source.neuron) &&
                    EqualRows(mine.up, match.mine, theirs.up, source.neuron);
    }
    WithBits(mine.down.dtype, [&](auto zero) {
      using Bits = decltype(zero);
      for (int64_t r = 0; r < mine.down.rows; ++r) {
        const Bits* row = mine.down.Row<Bits>(r);
        for (Match& match : matches) {
          const NeuronPool::Source& source = Theirs(match);
          match.equal &= row[match.mine] == Part(source.part).down.Row<Bits>(r)[source.neuron];
        }
      }
    });
  }

  const NeuronPool::Source& Theirs(const Match& match) const {
    return pool_.neurons[static_cast<size_t>(match.theirs)];
  }

  absl::Span<const FfnPart> parts_;
  NeuronPool pool_;
  absl::flat_hash_map<uint64_t, std::vector<int32_t>> by_hash_;
};

}  // namespace

bool NeuronPool::Shared() const {
  return std::any_of(owners.begin(), owners.end(),
                     [](uint64_t set) { return std::popcount(set) > 1; });
}

NeuronPool TieNeurons(absl::Span<const FfnPart> parts) {
  if (parts.size() == 1) {
    NeuronPool pool{{}, parts[0].owners};
    for (size_t n = 0; n < pool.owners.size(); ++n) {
      pool.neurons.push_back({0, static_cast<int32_t>(n)});
    }
    return pool;
  }
  Tying tying(parts);
  for (size_t part = 0; part < parts.size(); ++part) tying.Add(static_cast<int32_t>(part));
  return std::move(tying.pool());
}

}  // namespace pregate
