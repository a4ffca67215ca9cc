#include "engine/tokenizer/bpe_merger.h"

#include <algorithm>
#include <tuple>

namespace pregate {
namespace {

// Up to this length a scan for the best pair beats a heap; measured on English text and code.
constexpr size_t kShortWord = 32;

// Turns std::push_heap's greatest-first into the best merge first.
bool Later(const BpeMerger::Scratch::Candidate& a, const BpeMerger::Scratch::Candidate& b) {
  return std::tie(a.rank, a.position) > std::tie(b.rank, b.position);
}

}  // namespace

void BpeMerger::MergeFrom(size_t first, std::vector<int32_t>* symbols, Scratch* scratch) const {
  const size_t count = symbols->size() - first;
  if (count < 2) return;
  if (count <= kShortWord) {
    MergeShort(first, symbols, scratch);
  } else {
    MergeLong(first, symbols, scratch);
  }
}

void BpeMerger::MergeShort(size_t first, std::vector<int32_t>* symbols, Scratch* scratch) const {
  int32_t* symbol = symbols->data() + first;
  size_t count = symbols->size() - first;
  // pairs[i] is the merge of the neighbours i and i + 1.
  std::vector<Merge>& pairs = scratch->pairs;
  pairs.clear();
  for (size_t i = 0; i + 1 < count; ++i) pairs.push_back(Find(symbol[i], symbol[i + 1]));
  while (!pairs.empty()) {
    const auto best = std::min_element(
        pairs.begin(), pairs.end(), [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
    if (best->result < 0) break;
    const size_t at = best - pairs.begin();
    symbol[at] = best->result;
    std::copy(symbol + at + 2, symbol + count, symbol + at + 1);
    --count;
    pairs.erase(best);
    if (at > 0) pairs[at - 1] = Find(symbol[at - 1], symbol[at]);
    if (at + 1 < count) pairs[at] = Find(symbol[at], symbol[at + 1]);
  }
  symbols->resize(first + count);
}

void BpeMerger::PushCandidate(int32_t left_position, Scratch* scratch) const {
  if (left_position < 0) return;
  const Scratch::Node& left = scratch->nodes[left_position];
  if (left.next < 0) return;
  const int32_t right_symbol = scratch->nodes[left.next].symbol;
  const Merge merge = Find(left.symbol, right_symbol);
  if (merge.result < 0) return;
  scratch->heap.push_back({merge.rank, left_position, left.symbol, right_symbol, merge.result});
  std::push_heap(scratch->heap.begin(), scratch->heap.end(), Later);
}

void BpeMerger::MergeLong(size_t first, std::vector<int32_t>* symbols, Scratch* scratch) const {
  const int32_t count = static_cast<int32_t>(symbols->size() - first);
  auto& nodes = scratch->nodes;
  auto& heap = scratch->heap;
  nodes.clear();
  heap.clear();
  for (int32_t i = 0; i < count; ++i) {
    nodes.push_back({(*symbols)[first + i], i - 1, i + 1 < count ? i + 1 : -1});
  }
  for (int32_t i = 0; i < count; ++i) PushCandidate(i, scratch);

  while (!heap.empty()) {
    const Scratch::Candidate best = heap.front();
    std::pop_heap(heap.begin(), heap.end(), Later);
    heap.pop_back();
    Scratch::Node& left = nodes[best.position];
    // An older merge may have taken either neighbour.
    if (left.symbol != best.left || left.next < 0) continue;
    Scratch::Node& right = nodes[left.next];
    if (right.symbol != best.right) continue;
    left.symbol = best.result;
    left.next = right.next;
    right.symbol = -1;
    if (left.next >= 0) nodes[left.next].previous = best.position;
    PushCandidate(left.previous, scratch);
    PushCandidate(best.position, scratch);
  }

  size_t out = first;
  for (int32_t i = 0; i >= 0; i = nodes[i].next) (*symbols)[out++] = nodes[i].symbol;
  symbols->resize(out);
}

}  // namespace pregate
