// Logits in memory that the host cannot read: what it asks of a step's rows, in one go, and what
// comes over.
#ifndef PREGATE_ENGINE_MODEL_DEVICE_LOGITS_H_
#define PREGATE_ENGINE_MODEL_DEVICE_LOGITS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/model/sampling_params.h"
#include "kernels/device.h"
#include "kernels/kernels.h"
#include "kernels/tensor.h"

namespace pregate {

class DeviceLogits {
 public:
  // In the order in which the device does it.
  struct Questions {
    int32_t top = 0;                 // likeliest tokens and LogSumExp of every row; 0: neither
    std::vector<LogitPlace> places;  // single logits
    std::vector<LogitEdit> edits;    // of what follows
    std::vector<TokenDraw> draws;
    std::vector<size_t> whole;  // rows that are wanted whole, ascending

    void Clear();
  };

  // Tokens are the first `vocab_size` columns of each row.
  DeviceLogits(Device* device, const Kernels* kernels, int32_t vocab_size);

  // Brings the answers for logits [L, >= vocab] kF32. False, with nothing done, where the device
  // has no room for them.
  bool Ask(const Questions& questions, Tensor logits);
  // Brings whole rows, listed in ascending order; rows in succession come in one copy.
  void FetchRows(ConstTensor logits, absl::Span<const size_t> rows);

  // The answers that came last. The first `count` of a row's likeliest tokens, with their logits,
  // and log sum exp of the row.
  std::vector<TokenLogprob> Top(size_t row, int32_t count) const;
  double LogSumExp(size_t row) const;
  float LogitAt(size_t place) const { return OnHost<float>(layout_.logits)[place]; }
  // What a draw drew, with its logit.
  TokenLogprob Drawn(size_t draw) const {
    return {OnHost<int32_t>(layout_.drawn_ids)[draw], OnHost<float>(layout_.drawn_logits)[draw]};
  }
  // A whole row, [vocab], the caller's to change.
  absl::Span<float> Row(size_t row);

 private:
  // Where each kind of answer lies, in bytes, on the device and here.
  struct Layout {
    size_t totals = 0;                       // [L] double
    size_t top_logits = 0;                   // [L, top]
    size_t top_ids = 0;                      // [L, top]
    size_t logits = 0;                       // [places]
    size_t drawn_logits = 0, drawn_ids = 0;  // [draws]
    size_t end = 0;
  };
  static Layout LayOut(const Questions& questions, int64_t rows);
  template <typename T>
  T* OnDevice(size_t offset) const {
    return reinterpret_cast<T*>(static_cast<char*>(memory_.data()) + offset);
  }
  template <typename T>
  const T* OnHost(size_t offset) const {
    return reinterpret_cast<const T*>(answers_.data() + offset);
  }

  Device* device_;
  const Kernels* kernels_;
  int32_t vocab_size_;

  DeviceBuffer memory_;
  std::vector<char> answers_;
  Layout layout_;
  size_t top_ = 0;             // tokens of a row
  std::vector<float> whole_;   // rows, as far apart as on the device
  std::vector<size_t> place_;  // [L] of those rows in `whole_`
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_DEVICE_LOGITS_H_
