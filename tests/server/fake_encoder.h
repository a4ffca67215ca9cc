// An Engine that reads texts: what it gives is a formula of their ids, when a test lets it.
#ifndef PREGATE_TESTS_SERVER_FAKE_ENCODER_H_
#define PREGATE_TESTS_SERVER_FAKE_ENCODER_H_

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "tests/model/random_model.h"
#include "tests/server/fake_engine.h"

namespace pregate {

// Its tokenizer knows bytes, [CLS] (257) and [SEP] (258): a text is [CLS] text [SEP], a pair [CLS]
// a [SEP] b [SEP]. A vector has the sum of the ids, how many there are, and the first and the last
// but one; the score of a pair is 1 for every byte of the second text that the first one has, less
// 3. A text with the byte '!' fails, and with '?' never ends unless it is cancelled.
class FakeEncoder : public FakeEngine {
 public:
  static constexpr int32_t kCls = 257, kSep = 258;
  static constexpr int32_t kMaxTokens = 32;

  explicit FakeEncoder(bool scores) : thread_([this] { Run(); }) {
    RandomModelSpec model;
    model.vocab_size = 257;
    TokenizerSpec spec = MakeRandomModel(model)->tokenizer();
    for (const char* control : {"[CLS]", "[SEP]"}) {
      spec.tokens.emplace_back(control);
      spec.token_types.push_back(TokenizerSpec::kControl);
    }
    spec.bos_id = kCls;
    spec.eos_id = kSep;
    spec.add_bos = spec.add_eos = true;
    spec.pair_separators = {kSep};
    tokenizer_ = *Tokenizer::Create(std::move(spec));
    model_info.generates = false;
    model_info.vocab_size = 259;
    model_info.max_model_len = kMaxTokens;
    model_info.context_length = kMaxTokens;
    model_info.max_prompt_tokens = kMaxTokens;
    model_info.kv_blocks = 100;
    model_info.block_tokens = 16;
    model_info.scores = scores;
    model_info.embedding_size = scores ? 0 : 4;
    model_info.pooling = scores ? Pooling::kNone : Pooling::kMean;
  }
  ~FakeEncoder() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    thread_.join();
  }

  const Tokenizer& tokenizer() const override { return *tokenizer_; }

  absl::StatusOr<uint64_t> Encode(EncodingRequest request, EncodingCallback callback) override {
    if (absl::Status status = ValidateRequest(request, model_info); !status.ok()) return status;
    absl::MutexLock lock(&mutex_);
    if (draining_ && !request.continues) return absl::UnavailableError("server: draining");
    if (waiting_ >= max_waiting_) {
      return absl::ResourceExhaustedError(
          absl::StrCat("queue: must hold at most ", max_waiting_, " requests; got ", waiting_ + 1));
    }
    most_waiting_ = std::max(most_waiting_, ++waiting_);
    seen_.push_back(request);
    const uint64_t id = next_id_++;
    inbox_.push_back({id, std::move(request), std::move(callback)});
    return id;
  }

  void Cancel(uint64_t id) override {
    absl::MutexLock lock(&mutex_);
    cancelled_.push_back(id);
  }

  void StartDrain() override {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
  }

  // Nothing ends before Release.
  void Hold() {
    absl::MutexLock lock(&mutex_);
    held_ = true;
  }
  void Release() {
    absl::MutexLock lock(&mutex_);
    held_ = false;
  }
  void SetMaxWaiting(int32_t count) {
    absl::MutexLock lock(&mutex_);
    max_waiting_ = count;
  }
  std::vector<EncodingRequest> seen() const {
    absl::MutexLock lock(&mutex_);
    return seen_;
  }
  int32_t waiting() const {
    absl::MutexLock lock(&mutex_);
    return waiting_;
  }
  int32_t most_waiting() const {
    absl::MutexLock lock(&mutex_);
    return most_waiting_;
  }

  static std::vector<float> VectorOf(const std::vector<int32_t>& ids) {
    float sum = 0;
    for (const int32_t id : ids) sum += static_cast<float>(id);
    return {sum, static_cast<float>(ids.size()), static_cast<float>(ids.front()),
            static_cast<float>(ids[ids.size() > 1 ? ids.size() - 2 : 0])};
  }

 private:
  struct Job {
    uint64_t id;
    EncodingRequest request;
    EncodingCallback callback;
  };

  static float ScoreOf(const EncodingRequest& request) {
    float score = -3;
    const auto second = request.ids.begin() + request.second_begin;
    for (auto id = second; id + 1 != request.ids.end(); ++id) {
      score += std::find(request.ids.begin(), second, *id) != second;
    }
    return score;
  }

  bool Has(const EncodingRequest& request, char byte) const {
    return std::find(request.ids.begin(), request.ids.end(), byte) != request.ids.end();
  }

  // True: it ends with `output`.
  bool Settle(const Job& job, EncodingOutput* output) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (std::find(cancelled_.begin(), cancelled_.end(), job.id) != cancelled_.end()) {
      output->status = absl::CancelledError("engine: cancelled");
    } else if (job.request.deadline <= absl::Now()) {
      output->status = absl::DeadlineExceededError("deadline: expired in queue after 1 ms");
    } else if (held_ || Has(job.request, '?')) {
      return false;
    } else if (Has(job.request, '!')) {
      output->status = absl::InternalError("engine: the step failed: bang");
    } else {
      output->values =
          model_info.scores ? std::vector<float>{ScoreOf(job.request)} : VectorOf(job.request.ids);
    }
    output->queue = absl::Milliseconds(1);
    output->compute = absl::Milliseconds(1);
    return true;
  }

  void Run() {
    std::deque<Job> running;
    for (;;) {
      std::vector<std::pair<Job, EncodingOutput>> ended;
      {
        absl::MutexLock lock(&mutex_);
        if (stopping_ && running.empty() && inbox_.empty()) return;
        for (Job& job : inbox_) running.push_back(std::move(job));
        inbox_.clear();
        for (Job& job : std::exchange(running, {})) {
          EncodingOutput output;
          if (stopping_) cancelled_.push_back(job.id);
          if (Settle(job, &output)) {
            ended.emplace_back(std::move(job), std::move(output));
            --waiting_;
          } else {
            running.push_back(std::move(job));
          }
        }
      }
      // Not in the order in which they came.
      std::reverse(ended.begin(), ended.end());
      for (auto& [job, output] : ended) job.callback(std::move(output));
      ended.clear();
      absl::SleepFor(absl::Milliseconds(1));
    }
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  mutable absl::Mutex mutex_;
  std::vector<Job> inbox_ ABSL_GUARDED_BY(mutex_);
  std::vector<EncodingRequest> seen_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> cancelled_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  int32_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t most_waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t max_waiting_ ABSL_GUARDED_BY(mutex_) = 1000;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: starts when everything above stands
};

}  // namespace pregate

#endif  // PREGATE_TESTS_SERVER_FAKE_ENCODER_H_
