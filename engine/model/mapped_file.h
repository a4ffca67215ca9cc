// MappedFile: the bytes of a regular file, mapped read-only.
#ifndef PREGATE_ENGINE_MODEL_MAPPED_FILE_H_
#define PREGATE_ENGINE_MODEL_MAPPED_FILE_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace pregate {

class MappedFile {
 public:
  // `field` is what messages call the file. NOT_FOUND when there is none, PERMISSION_DENIED when it
  // may not be read, INVALID_ARGUMENT when it is not a regular file.
  static absl::StatusOr<MappedFile> Open(const std::string& path, std::string_view field);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  // The whole file; starts at a page boundary. Valid as long as this object.
  std::string_view bytes() const { return {static_cast<const char*>(data_), size_}; }

  // Gives the memory of those whole pages back that lie within [data, data + bytes); reading them
  // again loads them from the file. Does nothing where the range is not in this file.
  void Release(const void* data, size_t bytes) const;

 private:
  MappedFile(void* data, size_t size) : data_(data), size_(size) {}

  void* data_ = nullptr;  // null for an empty file
  size_t size_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_MAPPED_FILE_H_
