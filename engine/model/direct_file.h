// DirectFile: a nameless file of this process's own that is read past the page cache, in many
// pieces at once where the system allows it.
#ifndef PREGATE_ENGINE_MODEL_DIRECT_FILE_H_
#define PREGATE_ENGINE_MODEL_DIRECT_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pregate {

class DirectFile {
 public:
  // Offsets, sizes and addresses are multiples of this.
  static constexpr int64_t kAlignment = 4096;

  // How a file may be read, at best: kBest takes what the system has.
  enum class Access : uint8_t { kBest, kPread, kCached };

  // A new file in `folder`, which goes when the object goes or the process dies.
  // FAILED_PRECONDITION names the folder and the reason.
  static absl::StatusOr<std::unique_ptr<DirectFile>> Create(const std::string& folder,
                                                            Access access = Access::kBest);
  virtual ~DirectFile() = default;

  // Writes past the end are allowed. RESOURCE_EXHAUSTED: the disk is full.
  virtual absl::Status Write(int64_t offset, const void* data, int64_t bytes) = 0;

  // Fills `data`. Called from one thread at a time. DATA_LOSS: the file is shorter, or cannot be
  // read.
  virtual absl::Status Read(int64_t offset, void* data, int64_t bytes) = 0;

  // How it is read: "io_uring, direct", "pread, direct" or "pread, cached" (where the file system
  // has no direct access; what was read is dropped from the cache again).
  virtual std::string_view method() const = 0;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_DIRECT_FILE_H_
