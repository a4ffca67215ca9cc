// A cursor over the bytes of a GGUF file that never steps past their end.
#ifndef PREGATE_ENGINE_MODEL_GGUF_READER_H_
#define PREGATE_ENGINE_MODEL_GGUF_READER_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/model/file_error.h"

namespace pregate {

class GgufReader {
 public:
  static_assert(std::endian::native == std::endian::little);

  explicit GgufReader(std::string_view bytes) : bytes_(bytes) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  // The next `count` bytes. INVALID_ARGUMENT "<field>: truncated at byte ..." when the file ends
  // before them; the cursor then stays.
  absl::StatusOr<std::string_view> Take(uint64_t count, std::string_view field) {
    if (count > remaining()) {
      return Malformed(field,
                       absl::StrCat("truncated at byte ", bytes_.size(), ", must be ", count,
                                    " bytes from byte ", position_),
                       absl::StrCat(remaining(), " bytes"));
    }
    const std::string_view taken = bytes_.substr(position_, count);
    position_ += count;
    return taken;
  }

  template <typename T>
  absl::StatusOr<T> Number(std::string_view field) {
    const absl::StatusOr<std::string_view> taken = Take(sizeof(T), field);
    if (!taken.ok()) return taken.status();
    T number;
    std::memcpy(&number, taken->data(), sizeof(T));
    return number;
  }

  // A 64-bit length and so many bytes.
  absl::StatusOr<std::string_view> String(std::string_view field) {
    const absl::StatusOr<uint64_t> length = Number<uint64_t>(field);
    if (!length.ok()) return length.status();
    return Take(*length, field);
  }

 private:
  std::string_view bytes_;
  uint64_t position_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_GGUF_READER_H_
