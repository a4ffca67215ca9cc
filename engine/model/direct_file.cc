#include "engine/model/direct_file.h"

#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

// A disk is busy with some of these; larger ones only wait longer for their first byte.
constexpr int64_t kChunkBytes = 512 << 10;
constexpr unsigned kChunksInFlight = 8;

std::string Reason(int error) { return std::strerror(error); }

// A file without a name. File systems that know no O_TMPFILE get a name, which is taken away.
int OpenNameless(const std::string& folder, int flags) {
  const int fd = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return fd;
  std::string name = folder + "/pregate.XXXXXX";
  const int named = mkostemp(name.data(), O_CLOEXEC | flags);
  if (named >= 0) unlink(name.c_str());
  return named;
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

class PlainFile : public DirectFile {
 public:
  PlainFile(FileDescriptor fd, bool direct) : fd_(std::move(fd)), direct_(direct) {}

  absl::Status Write(int64_t offset, const void* data, int64_t bytes) override {
    assert(offset % kAlignment == 0 && bytes % kAlignment == 0);
    const char* next = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t written = pwrite(fd_.get(), next, static_cast<size_t>(bytes), offset);
      if (written <= 0) {
        const int error = errno;
        if (written < 0 && error == EINTR) continue;
        return absl::ResourceExhaustedError(
            absl::StrCat("expert file: cannot write ", bytes, " bytes: ", Reason(error)));
      }
      next += written, offset += written, bytes -= written;
    }
    if (!direct_) sync_file_range(fd_.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
    return absl::OkStatus();
  }

  absl::Status Read(int64_t offset, void* data, int64_t bytes) override {
    assert(offset % kAlignment == 0 && bytes % kAlignment == 0);
    const int64_t begin = offset, total = bytes;
    char* next = static_cast<char*>(data);
    while (bytes > 0) {
      const ssize_t got = pread(fd_.get(), next, static_cast<size_t>(bytes), offset);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return Lost(offset, got < 0 ? errno : 0);
      next += got, offset += got, bytes -= got;
    }
    if (!direct_) posix_fadvise(fd_.get(), begin, total, POSIX_FADV_DONTNEED);
    return absl::OkStatus();
  }

  std::string_view method() const override { return direct_ ? "pread, direct" : "pread, cached"; }

 protected:
  static absl::Status Lost(int64_t offset, int error) {
    return absl::DataLossError(absl::StrCat("expert file: cannot read at byte ", offset, ": ",
                                            error == 0 ? "it ends there" : Reason(error)));
  }
  int fd() const { return fd_.get(); }

 private:
  const FileDescriptor fd_;
  const bool direct_;
};

// The same, read in chunks that are under way together.
class UringFile : public PlainFile {
 public:
  UringFile(FileDescriptor fd, io_uring ring) : PlainFile(std::move(fd), true), ring_(ring) {}
  ~UringFile() override { io_uring_queue_exit(&ring_); }

  absl::Status Read(int64_t offset, void* data, int64_t bytes) override {
    assert(offset % kAlignment == 0 && bytes % kAlignment == 0);
    int64_t asked = 0;
    unsigned in_flight = 0;
    int error = 0;
    bool short_read = false;
    while (asked < bytes || in_flight > 0) {
      while (asked < bytes && in_flight < kChunksInFlight && error == 0) {
        io_uring_sqe* entry = io_uring_get_sqe(&ring_);
        const int64_t size = std::min(kChunkBytes, bytes - asked);
        io_uring_prep_read(entry, fd(), static_cast<char*>(data) + asked,
                           static_cast<unsigned>(size), static_cast<uint64_t>(offset + asked));
        io_uring_sqe_set_data64(entry, static_cast<uint64_t>(size));
        asked += size;
        ++in_flight;
      }
      if (in_flight == 0) break;  // after an error
      const int submitted = io_uring_submit_and_wait(&ring_, 1);
      if (submitted < 0 && submitted != -EINTR) return Lost(offset, -submitted);
      io_uring_cqe* done = nullptr;
      while (io_uring_peek_cqe(&ring_, &done) == 0) {
        if (done->res < 0) error = -done->res;
        short_read |= done->res >= 0 && static_cast<uint64_t>(done->res) != done->user_data;
        io_uring_cqe_seen(&ring_, done);
        --in_flight;
      }
    }
    // The kernel may answer with less than asked for; the plain way finds out what is the matter.
    if (error != 0 || short_read) return PlainFile::Read(offset, data, bytes);
    return absl::OkStatus();
  }

  std::string_view method() const override { return "io_uring, direct"; }

 private:
  io_uring ring_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DirectFile>> DirectFile::Create(const std::string& folder,
                                                               Access access) {
  const int direct = access == Access::kCached ? -1 : OpenNameless(folder, O_DIRECT);
  if (direct >= 0) {
    FileDescriptor fd(direct);
    io_uring ring;
    // Containers often forbid it.
    if (access == Access::kBest && io_uring_queue_init(kChunksInFlight, &ring, 0) == 0) {
      return std::make_unique<UringFile>(std::move(fd), ring);
    }
    return std::make_unique<PlainFile>(std::move(fd), true);
  }
  const int cached = OpenNameless(folder, 0);
  if (cached < 0) {
    const int error = errno;
    return absl::FailedPreconditionError(
        absl::StrCat("expert-cache-dir: must be a folder where a file can be made (", Reason(error),
                     "); got ", folder));
  }
  return std::make_unique<PlainFile>(FileDescriptor(cached), false);
}

}  // namespace pregate
