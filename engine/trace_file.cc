#include "engine/trace_file.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace pregate {

absl::StatusOr<std::unique_ptr<TraceFile>> TraceFile::Create(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "we");
  if (file == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("record-trace: must be a file that can be written; got ", path, " (",
                     std::strerror(errno), ")"));
  }
  return absl::WrapUnique(new TraceFile(file));
}

TraceFile::~TraceFile() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
  std::fclose(file_);
}

void TraceFile::Append(absl::string_view lines) {
  absl::MutexLock lock(&mutex_);
  if (given_up_) return;
  if (waiting_.size() + lines.size() > kMaxWaiting) return GiveUp("the disk is too slow");
  absl::StrAppend(&waiting_, lines);
}

void TraceFile::Run() {
  for (bool stopping = false; !stopping;) {
    std::string lines;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(&stopping_), absl::Seconds(1));
      stopping = stopping_;
      lines = std::exchange(waiting_, {});
    }
    if (Write(lines)) continue;
    const std::string why = std::strerror(errno);
    absl::MutexLock lock(&mutex_);
    if (!given_up_) GiveUp(why);
  }
}

bool TraceFile::Write(const std::string& lines) {
  return std::fwrite(lines.data(), 1, lines.size(), file_) == lines.size() &&
         std::fflush(file_) == 0;
}

void TraceFile::GiveUp(absl::string_view why) {
  given_up_ = true;
  waiting_.clear();
  std::fprintf(stderr, "record-trace: the trace ends here: %s\n", std::string(why).c_str());
}

}  // namespace pregate
