#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstring>
#include <utility>

#include "kernels/await_change.h"
#include "kernels/communicator.h"

namespace pregate {
namespace {

// Elements that a thread takes at a time: smaller sums are one thread's work.
constexpr int64_t kGrain = 16384;
// Of these, what fits the level-1 cache beside what is added to it.
constexpr int64_t kPiece = 1024;

// What the ranks share.
class Meeting {
 public:
  Meeting(int size, bool may_spin)
      : matrices(static_cast<size_t>(size)), size_(static_cast<uint32_t>(size)), spin_(may_spin) {}

  // Returns once every rank has called it as often.
  void Await() {
    const uint32_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < size_) {
      return AwaitChange(round_, round, spin_);
    }
    arrived_.store(0, std::memory_order_relaxed);
    round_.store(round + 1, std::memory_order_release);
    round_.notify_all();
  }

  // What each rank has brought: its own to write before Await, all to read after.
  std::vector<Tensor> matrices;

 private:
  const uint32_t size_;
  const bool spin_;
  alignas(64) std::atomic<uint32_t> arrived_ = 0;
  alignas(64) std::atomic<uint32_t> round_ = 0;
};

class HostCommunicator : public Communicator {
 public:
  HostCommunicator(int rank, int size, std::shared_ptr<Meeting> meeting)
      : Communicator(rank, size), meeting_(std::move(meeting)) {}

  // Each rank adds up its share of the elements, and writes the sums into everybody's matrix.
  void AllReduceSum(Device& device, Tensor x) override {
    assert(device.host_memory() && x.dtype == DType::kF32);
    assert(x.stride == x.cols * static_cast<int64_t>(sizeof(float)));
    Bring(x);
    const int64_t count = x.rows * x.cols;
    const int64_t first = count * rank() / size(), end = count * (rank() + 1) / size();
    device.ParallelFor(end - first, kGrain, [&](int64_t from, int64_t to) {
      for (int64_t i = first + from; i < first + to; i += kPiece) {
        AddUp(i, std::min(kPiece, first + to - i));
      }
    });
    meeting_->Await();
  }

  void GatherColumns(Device& device, Tensor x, absl::Span<const int64_t> begin) override {
    assert(device.host_memory() && x.dtype == DType::kF32);
    assert(begin.size() == static_cast<size_t>(size()) + 1);
    Bring(x);
    for (size_t r = 1; rank() == 0 && r < static_cast<size_t>(size()); ++r) {
      const Tensor& from = meeting_->matrices[r];
      assert(from.rows == x.rows && from.cols == begin[r + 1] - begin[r]);
      for (int64_t row = 0; row < x.rows; ++row) {
        std::memcpy(x.Row<float>(row) + begin[r], from.Row<float>(row),
                    static_cast<size_t>(from.cols) * sizeof(float));
      }
    }
    meeting_->Await();  // the parts are their owners' again
  }

 private:
  void Bring(Tensor matrix) {
    meeting_->matrices[static_cast<size_t>(rank())] = matrix;
    meeting_->Await();
  }
  // Of the elements from `first` on.
  void AddUp(int64_t first, int64_t count) const {
    float sums[kPiece];
    const auto bytes = static_cast<size_t>(count) * sizeof(float);
    std::memcpy(sums, At(0) + first, bytes);
    for (int r = 1; r < size(); ++r) {
      const float* const more = At(r) + first;
      for (int64_t i = 0; i < count; ++i) sums[i] += more[i];
    }
    for (int r = 0; r < size(); ++r) std::memcpy(At(r) + first, sums, bytes);
  }
  float* At(int rank) const { return meeting_->matrices[static_cast<size_t>(rank)].Row<float>(0); }

  const std::shared_ptr<Meeting> meeting_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeHostCommunicators(int size, bool may_spin) {
  assert(size >= 1);
  const auto meeting = std::make_shared<Meeting>(size, may_spin);
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int r = 0; r < size; ++r) {
    ranks.push_back(std::make_unique<HostCommunicator>(r, size, meeting));
  }
  return ranks;
}

}  // namespace pregate
