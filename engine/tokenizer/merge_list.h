// Merges as a model file spells them, turned into merges of ids.
#ifndef PREGATE_ENGINE_TOKENIZER_MERGE_LIST_H_
#define PREGATE_ENGINE_TOKENIZER_MERGE_LIST_H_

#include "absl/status/statusor.h"
#include "engine/tokenizer/bpe_merger.h"
#include "engine/tokenizer/vocabulary.h"

namespace pregate {

// From spec().merges, in order of rank. FAILED_PRECONDITION when a part or the result is no token.
// Merges that would make a control token out of plain text are left out.
absl::StatusOr<BpeMerger> MergesByRank(const Vocabulary& vocabulary);

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_MERGE_LIST_H_
