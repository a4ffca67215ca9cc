// When the requests of a load are due, and what became of them: what both protocols share.
#ifndef PREGATE_LOAD_TESTS_LOADGEN_PACE_H_
#define PREGATE_LOAD_TESTS_LOADGEN_PACE_H_

#include <time.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "load_tests/loadgen/arrivals.h"
#include "load_tests/loadgen/report.h"

namespace pregate {

struct Load {
  std::vector<Arrival> requests;
  // 0: open loop: each request at its time, whatever the server does. N: closed loop: N clients,
  // each of which sends its next request when its last one has ended; times are not looked at.
  int concurrency = 0;
};

class Pace {
 public:
  explicit Pace(const Load& load) : load_(load), records_(load.requests.size()) {}

  void Start() { start_ = Clock::now(); }

  // Runs the load on this thread: `send` begins the request that is due, `advance` brings those on
  // that are in flight, and waits for something to happen to them or for Wait().
  template <typename Send, typename Advance>
  std::vector<RequestRecord> Execute(const Send& send, const Advance& advance) {
    Start();
    while (!is_done()) {
      while (IsDue()) send();
      advance();
    }
    return TakeRecords();
  }
  // Until the next request is due, but at most `longest_s`, below a second.
  timespec Wait(double longest_s) const;
  // Lets so much pass, unless a request is due.
  void Nap(double seconds) const {
    const timespec nap = Wait(seconds);
    nanosleep(&nap, nullptr);
  }

  // Seconds since the start of the run.
  double Now() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  bool is_done() const { return next_ == records_.size() && in_flight_ == 0; }
  // Whether a request should be sent now.
  bool IsDue() const;
  // Seconds until the next one is due; nothing if only the end of another can make one due.
  std::optional<double> UntilDue() const;

  // Takes the next request and fills in its record, which stays where it is. `number`: which it is.
  RequestRecord* Begin(size_t* number);
  void End() { --in_flight_; }

  std::vector<RequestRecord> TakeRecords() { return std::move(records_); }

 private:
  using Clock = std::chrono::steady_clock;

  bool is_closed() const { return load_.concurrency > 0; }

  const Load& load_;
  Clock::time_point start_;
  std::vector<RequestRecord> records_;
  size_t next_ = 0;  // of the requests, the first that is not sent
  int in_flight_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_LOAD_TESTS_LOADGEN_PACE_H_
