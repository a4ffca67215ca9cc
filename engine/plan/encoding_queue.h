// EncodingQueue: which texts an encoder reads together. Texts are read whole, in one step each, and
// cost by their tokens; so what is to be decided is only who waits for whom.
//
// A text should not wait for much longer ones that share its step. So a step takes those that are
// about as long as the first in line, or shorter, before those that are longer; and the first in
// line is always among them. Whoever has been passed over often enough is passed over by nobody.
#ifndef PREGATE_ENGINE_PLAN_ENCODING_QUEUE_H_
#define PREGATE_ENGINE_PLAN_ENCODING_QUEUE_H_

#include <cstdint>
#include <deque>
#include <limits>
#include <vector>

namespace pregate {

struct EncodingQueueConfig {
  int64_t max_tokens = 512;  // of a step; one longer text may be alone in it
  int32_t max_texts = 64;    // of a step
  // Tokens below which a step takes longer texts in as well: it would not use the processor well.
  int64_t few_tokens = 64;
  int32_t max_passed_over = 4;  // steps that others may go before
  // How far behind the first in line a step looks, in texts: bounds its time.
  int32_t window = 1024;
};

class EncodingQueue {
 public:
  struct Text {
    uint64_t id = 0;
    int64_t tokens = 0;    // at least 1
    int32_t priority = 0;  // lower goes first
    // When it is of no use any more, on the caller's clock, in seconds.
    double deadline = std::numeric_limits<double>::infinity();
  };

  explicit EncodingQueue(const EncodingQueueConfig& config) : config_(config) {}

  void Add(const Text& text);
  // False: it is not waiting.
  bool Cancel(uint64_t id);

  // Takes away what `now` is too late for, in order.
  std::vector<uint64_t> TakeExpired(double now);
  // Takes the texts of the next step, in order; none if nothing waits. A text whose deadline is
  // less than `urgent` seconds away goes before others of its priority.
  std::vector<uint64_t> TakeStep(double now, double urgent);

  bool empty() const { return waiting_.empty(); }
  int32_t size() const { return static_cast<int32_t>(waiting_.size()); }
  int64_t tokens() const { return tokens_; }

 private:
  struct Waiting {
    Text text;
    int32_t passed_over = 0;  // steps that took somebody behind it
  };

  void Promote(double now, double urgent);

  const EncodingQueueConfig config_;
  std::deque<Waiting> waiting_;  // by priority, then arrival
  int64_t tokens_ = 0;           // of all
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_ENCODING_QUEUE_H_
