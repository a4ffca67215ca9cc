#include "server/identity/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

class OpenFile {
 public:
  // O_NONBLOCK: opening a pipe that nobody writes must not hold the server.
  explicit OpenFile(const std::string& path)
      : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~OpenFile() {
    if (fd_ >= 0) close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  int fd() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

absl::Status FileError(absl::string_view flag, absl::string_view rule, const std::string& path) {
  return absl::FailedPreconditionError(absl::StrCat(flag, ": must ", rule, "; got ", path));
}

absl::StatusOr<std::string> ReadSmallFile(absl::string_view flag, const std::string& path) {
  auto unreadable = [&] {
    return FileError(flag, absl::StrCat("be a file that can be read (", std::strerror(errno), ")"),
                     path);
  };
  const OpenFile file(path);
  struct stat info {};
  if (file.fd() < 0 || fstat(file.fd(), &info) != 0) return unreadable();
  if (!S_ISREG(info.st_mode)) return FileError(flag, "be a regular file", path);
  std::string bytes(kMaxSmallFileBytes + 1, '\0');
  size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t got = read(file.fd(), bytes.data() + size, bytes.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return unreadable();
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > kMaxSmallFileBytes) {
    return FileError(flag, absl::StrCat("have at most ", kMaxSmallFileBytes, " bytes"), path);
  }
  bytes.resize(size);
  return bytes;
}

bool IsReadableByAll(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && (info.st_mode & S_IROTH) != 0;
}

}  // namespace pregate
