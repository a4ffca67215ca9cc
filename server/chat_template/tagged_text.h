// TaggedText: bytes that remember which of them came from a client.
#ifndef PREGATE_SERVER_CHAT_TEMPLATE_TAGGED_TEXT_H_
#define PREGATE_SERVER_CHAT_TEMPLATE_TAGGED_TEXT_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace pregate {

// UTF-8 text with the ranges of its bytes that a client wrote. Whatever is built from a client's
// bytes stays the client's: concatenation and slices keep exact ranges, other operations mark their
// whole result.
class TaggedText {
 public:
  struct Range {  // [begin, end) bytes
    size_t begin;
    size_t end;
  };

  TaggedText() = default;
  explicit TaggedText(std::string bytes, bool from_client = false);

  const std::string& bytes() const { return bytes_; }
  bool has_client_bytes() const { return !ranges_.empty(); }
  // Sorted, apart from each other, not empty.
  const std::vector<Range>& client_ranges() const { return ranges_; }

  void Append(absl::string_view bytes) { bytes_.append(bytes.data(), bytes.size()); }
  void Append(const TaggedText& other);
  TaggedText Slice(size_t begin, size_t end) const;

 private:
  void MarkClient(size_t begin, size_t end);

  std::string bytes_;
  std::vector<Range> ranges_;
};

}  // namespace pregate

#endif  // PREGATE_SERVER_CHAT_TEMPLATE_TAGGED_TEXT_H_
