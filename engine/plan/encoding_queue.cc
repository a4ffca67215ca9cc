#include "engine/plan/encoding_queue.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace pregate {
namespace {

// Texts of one class differ in length by less than twice.
int LengthClass(int64_t tokens) { return std::bit_width(static_cast<uint64_t>(tokens)); }

}  // namespace

void EncodingQueue::Add(const Text& text) {
  assert(text.tokens > 0);
  const auto behind = std::upper_bound(
      waiting_.begin(), waiting_.end(), text.priority,
      [](int32_t priority, const Waiting& other) { return priority < other.text.priority; });
  waiting_.insert(behind, {text});
  tokens_ += text.tokens;
}

bool EncodingQueue::Cancel(uint64_t id) {
  const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                  [id](const Waiting& w) { return w.text.id == id; });
  if (found == waiting_.end()) return false;
  tokens_ -= found->text.tokens;
  waiting_.erase(found);
  return true;
}

std::vector<uint64_t> EncodingQueue::TakeExpired(double now) {
  std::vector<uint64_t> expired;
  std::erase_if(waiting_, [&](const Waiting& w) {
    if (w.text.deadline > now) return false;
    expired.push_back(w.text.id);
    tokens_ -= w.text.tokens;
    return true;
  });
  return expired;
}

// Brings to the front who would be late otherwise: the one that would be first, if its priority is
// that of the front.
void EncodingQueue::Promote(double now, double urgent) {
  const auto end = waiting_.begin() + std::min<int64_t>(config_.window, size());
  const auto hurried =
      std::min_element(waiting_.begin(), end, [](const Waiting& a, const Waiting& b) {
        return a.text.priority != b.text.priority ? a.text.priority < b.text.priority
                                                  : a.text.deadline < b.text.deadline;
      });
  if (hurried == end || hurried->text.deadline - now >= urgent) return;
  // Nobody goes before one that has waited long enough.
  if (waiting_.front().passed_over >= config_.max_passed_over) return;
  for (auto w = waiting_.begin(); w != hurried; ++w) ++w->passed_over;
  std::rotate(waiting_.begin(), hurried, hurried + 1);
}

std::vector<uint64_t> EncodingQueue::TakeStep(double now, double urgent) {
  if (waiting_.empty()) return {};
  Promote(now, urgent);
  const int64_t looked_at = std::min<int64_t>(config_.window, size());
  const int first_class = LengthClass(waiting_.front().text.tokens);
  std::vector<bool> taken(static_cast<size_t>(looked_at));
  int64_t tokens = 0, texts = 0, last = -1;
  // Those of the first one's class and shorter, then the longer ones if there is little to do.
  for (const bool longer : {false, true}) {
    for (int64_t i = 0; i < looked_at && texts < config_.max_texts; ++i) {
      const Waiting& w = waiting_[static_cast<size_t>(i)];
      if (taken[static_cast<size_t>(i)]) continue;
      const bool patient = w.passed_over < config_.max_passed_over;
      const bool is_longer = LengthClass(w.text.tokens) > first_class;
      if (longer ? tokens >= config_.few_tokens : is_longer && patient) continue;
      if (texts > 0 && tokens + w.text.tokens > config_.max_tokens) {
        if (!patient) break;  // nobody goes before it: it begins the next step, or one soon
        continue;
      }
      taken[static_cast<size_t>(i)] = true;
      tokens += w.text.tokens;
      last = std::max(last, i);
      ++texts;
    }
  }
  std::vector<uint64_t> step;
  int64_t index = 0;
  std::deque<Waiting> left;
  for (Waiting& w : waiting_) {
    if (index < looked_at && taken[static_cast<size_t>(index)]) {
      step.push_back(w.text.id);
      tokens_ -= w.text.tokens;
    } else {
      if (index < last) ++w.passed_over;
      left.push_back(std::move(w));
    }
    ++index;
  }
  waiting_ = std::move(left);
  return step;
}

}  // namespace pregate
