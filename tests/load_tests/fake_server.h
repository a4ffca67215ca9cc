// A server of the real API that computes nothing and answers at known times: what a measurement of
// it must come to is known beforehand.
#ifndef PREGATE_TESTS_LOAD_TESTS_FAKE_SERVER_H_
#define PREGATE_TESTS_LOAD_TESTS_FAKE_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>

namespace pregate {

struct FakeServerOptions {
  double first_token_s = 0.05;     // from the arrival of a request
  double between_tokens_s = 0.01;  // one token each
  double freeze_from_s = 0;        // from the first request: nothing is sent until
  double freeze_s = 0;             // so much later
  int max_streams = 1 << 20;       // more at once are refused: RESOURCE_EXHAUSTED
  double cut_after = 1;            // share of max_tokens that an answer has
  uint32_t vocab_size = 1000;
};

// Listens on loopback, on a port of its own, from construction to destruction. Refuses, with
// INVALID_ARGUMENT, requests that a load test must not send: ids beyond the vocabulary, an answer
// that may end early or by chance.
class FakeServer {
 public:
  explicit FakeServer(const FakeServerOptions& options);
  ~FakeServer();

  const std::string& address() const { return address_; }
  int most_streams() const;  // that were open at once

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::string address_;
};

}  // namespace pregate

#endif  // PREGATE_TESTS_LOAD_TESTS_FAKE_SERVER_H_
