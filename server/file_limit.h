// How many files and connections a process may have open.
#ifndef PREGATE_SERVER_FILE_LIMIT_H_
#define PREGATE_SERVER_FILE_LIMIT_H_

#include <sys/resource.h>

namespace pregate {

// As many as it may allow itself: every stream takes a file descriptor. The soft limit is low for
// the sake of programs that use select().
inline void RaiseFileLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace pregate

#endif  // PREGATE_SERVER_FILE_LIMIT_H_
