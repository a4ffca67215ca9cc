#include "server/chat_template/tagged_text.h"

#include <algorithm>

namespace pregate {

TaggedText::TaggedText(std::string bytes, bool from_client) : bytes_(std::move(bytes)) {
  if (from_client) MarkClient(0, bytes_.size());
}

void TaggedText::MarkClient(size_t begin, size_t end) {
  if (begin == end) return;
  if (!ranges_.empty() && ranges_.back().end == begin) {
    ranges_.back().end = end;
  } else {
    ranges_.push_back({begin, end});
  }
}

void TaggedText::Append(const TaggedText& other) {
  const size_t shift = bytes_.size();
  bytes_ += other.bytes_;
  for (const Range& range : other.ranges_) MarkClient(shift + range.begin, shift + range.end);
}

TaggedText TaggedText::Slice(size_t begin, size_t end) const {
  TaggedText slice(bytes_.substr(begin, end - begin));
  auto range = std::partition_point(ranges_.begin(), ranges_.end(),
                                    [begin](const Range& r) { return r.end <= begin; });
  for (; range != ranges_.end() && range->begin < end; ++range) {
    slice.MarkClient(std::max(range->begin, begin) - begin, std::min(range->end, end) - begin);
  }
  return slice;
}

}  // namespace pregate
