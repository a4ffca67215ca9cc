// TCP sockets whose kernel notes when what is received has come: what keeps this process from
// reading need not count.
#ifndef PREGATE_LOAD_TESTS_LOADGEN_TIMED_SOCKET_H_
#define PREGATE_LOAD_TESTS_LOADGEN_TIMED_SOCKET_H_

#include <sys/socket.h>
#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace pregate {

struct Address {
  sockaddr_storage storage = {};
  socklen_t length = 0;
};

// INVALID_ARGUMENT unless `text` is HOST:PORT of a host that is known.
absl::StatusOr<Address> Resolve(const std::string& text);

// A socket that is about to be connected and never blocks; -1 if there is none.
int Dial(const Address& address);

// As recv. `waited_s`: how long the last byte had lain with the kernel; unchanged if nothing came.
ssize_t Receive(int fd, absl::Span<char> buffer, double* waited_s);

}  // namespace pregate

#endif  // PREGATE_LOAD_TESTS_LOADGEN_TIMED_SOCKET_H_
