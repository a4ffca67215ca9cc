// Byte-pair encoding's merge loop over token ids (Sennrich et al. 2016, section 3.2).
#ifndef PREGATE_ENGINE_TOKENIZER_BPE_MERGER_H_
#define PREGATE_ENGINE_TOKENIZER_BPE_MERGER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace pregate {

// The merges of one vocabulary: two neighbours, what they become, and which merge goes first.
class BpeMerger {
 public:
  struct Merge {
    int32_t rank;  // lower goes first; of equal ranks the leftmost
    int32_t result;
  };
  // Memory of one thread's merging, reused from word to word.
  struct Scratch {
    struct Node {
      int32_t symbol, previous, next;  // positions; -1 at the ends; symbol -1: merged away
    };
    struct Candidate {
      int32_t rank, position;  // position of the left neighbour
      int32_t left, right;     // the symbols that the candidate was made for
      int32_t result;
    };
    std::vector<Merge> pairs;
    std::vector<Node> nodes;
    std::vector<Candidate> heap;
  };

  void Reserve(size_t merges) { merges_.reserve(merges); }
  // A pair that is added again keeps the last rank given.
  void Add(int32_t left, int32_t right, Merge merge) { merges_[Key(left, right)] = merge; }
  bool Contains(int32_t left, int32_t right) const { return merges_.contains(Key(left, right)); }

  // Merges neighbours within symbols[first, size) until none can be. Time O(n log n).
  void MergeFrom(size_t first, std::vector<int32_t>* symbols, Scratch* scratch) const;

 private:
  static constexpr Merge kNone = {INT32_MAX, -1};

  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  Merge Find(int32_t left, int32_t right) const {
    const auto found = merges_.find(Key(left, right));
    return found == merges_.end() ? kNone : found->second;
  }
  void MergeShort(size_t first, std::vector<int32_t>* symbols, Scratch* scratch) const;
  void MergeLong(size_t first, std::vector<int32_t>* symbols, Scratch* scratch) const;
  void PushCandidate(int32_t left_position, Scratch* scratch) const;

  absl::flat_hash_map<uint64_t, Merge> merges_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_BPE_MERGER_H_
