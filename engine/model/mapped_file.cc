#include "engine/model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "engine/model/file_error.h"

namespace pregate {
namespace {

// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

absl::Status SystemError(std::string_view field, std::string_view what) {
  return absl::ErrnoToStatus(errno, absl::StrCat(ToAbsl(field), ": ", ToAbsl(what)));
}

}  // namespace

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path, std::string_view field) {
  // O_NONBLOCK: opening a named pipe must not wait for a writer.
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return SystemError(field, "cannot be opened");
  struct stat info = {};
  if (fstat(file.get(), &info) != 0) return SystemError(field, "cannot be examined");
  if (!S_ISREG(info.st_mode)) {
    return Malformed(field, "must be a regular file",
                     S_ISDIR(info.st_mode) ? "a folder" : "a special file");
  }
  if (info.st_size == 0) return MappedFile(nullptr, 0);
  const auto size = static_cast<size_t>(info.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (data == MAP_FAILED) return SystemError(field, "cannot be mapped");
  return MappedFile(data, size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::Release(const void* data, size_t bytes) const {
  const auto first = reinterpret_cast<uintptr_t>(data);
  const auto start = reinterpret_cast<uintptr_t>(data_);
  if (first < start || first + bytes > start + size_) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (first + page - 1) / page * page;
  const uintptr_t end = (first + bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, size_);
}

}  // namespace pregate
