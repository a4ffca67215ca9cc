// TraceFile: the file of `--record-trace`. Lines are handed over by the engine's thread and written
// by one of its own, so that no step waits for a disk.
#ifndef PREGATE_ENGINE_TRACE_FILE_H_
#define PREGATE_ENGINE_TRACE_FILE_H_

#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace pregate {

class TraceFile {
 public:
  // What waits for the disk at most; beyond, the trace ends.
  static constexpr size_t kMaxWaiting = size_t{64} << 20;

  // FAILED_PRECONDITION "record-trace: must be a file that can be written; got <path> (<why>)".
  static absl::StatusOr<std::unique_ptr<TraceFile>> Create(const std::string& path);
  // Writes the rest.
  ~TraceFile();

  // Appends whole lines. They are in the file a second later, or the file has ended before them and
  // standard error says why.
  void Append(absl::string_view lines);

 private:
  explicit TraceFile(std::FILE* file) : file_(file), thread_([this] { Run(); }) {}

  void Run();
  bool Write(const std::string& lines);
  void GiveUp(absl::string_view why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::FILE* const file_;
  absl::Mutex mutex_;
  std::string waiting_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool given_up_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: starts when everything above stands
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_TRACE_FILE_H_
