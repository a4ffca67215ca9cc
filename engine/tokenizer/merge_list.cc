#include "engine/tokenizer/merge_list.h"

#include "absl/status/status.h"
#include "engine/tokenizer/strings.h"

namespace pregate {

absl::StatusOr<BpeMerger> MergesByRank(const Vocabulary& vocabulary) {
  const auto& merges = vocabulary.spec().merges;
  BpeMerger merger;
  merger.Reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const int32_t left_id = vocabulary.Find(left);
    const int32_t right_id = vocabulary.Find(right);
    const int32_t result = vocabulary.Find(Cat(left, right));
    if (left.empty() || right.empty() || left_id == Vocabulary::kNoToken ||
        right_id == Vocabulary::kNoToken || result == Vocabulary::kNoToken) {
      return absl::FailedPreconditionError(Cat(
          "tokenizer.merges[", rank, "]: both parts and what they become must be tokens; got \"",
          left, "\" + \"", right, "\""));
    }
    if (!vocabulary.CanBeMade(result)) continue;
    merger.Add(left_id, right_id, {static_cast<int32_t>(rank), result});
  }
  return merger;
}

}  // namespace pregate
