// Communicators: what the ranks of a group say to each other. A rank is a device and the thread
// that issues its work; ranks run the same calls in the same order, each on its part of a model.
#ifndef PREGATE_KERNELS_COMMUNICATOR_H_
#define PREGATE_KERNELS_COMMUNICATOR_H_

#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/tensor.h"

namespace pregate {

// One rank's end. Every call is made by all ranks, with matrices of the same shapes, in one order;
// it returns as a kernel does, when its results may be used by the next call on the device.
class Communicator {
 public:
  virtual ~Communicator() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }

  // x [R, C] kF32, densely packed, becomes the sum of all ranks' x: the same bits on every rank.
  virtual void AllReduceSum(Device& device, Tensor x) = 0;

  // Brings the columns of a matrix [R, begin[size]] kF32 together at rank 0, where rank r has those
  // of [begin[r], begin[r + 1]): x is them, densely packed; at rank 0 it is the whole matrix, of
  // which the first begin[1] columns are its own.
  virtual void GatherColumns(Device& device, Tensor x, absl::Span<const int64_t> begin) = 0;

 protected:
  Communicator(int rank, int size) : rank_(rank), size_(size) {}

 private:
  const int rank_, size_;
};

// Ranks that are threads of this process, with devices whose memory the host reads. Sums are taken
// in the order of ranks, so that they are the same in every run and for every number of rows.
// `may_spin`: waiting ranks look for a moment before they sleep; not where there are more threads
// than processors.
std::vector<std::unique_ptr<Communicator>> MakeHostCommunicators(int size, bool may_spin);

}  // namespace pregate

#endif  // PREGATE_KERNELS_COMMUNICATOR_H_
