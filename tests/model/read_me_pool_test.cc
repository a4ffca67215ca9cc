#include "engine/model/read_me_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/model/random_model.h"

namespace pregate {
namespace {

constexpr int64_t kHidden = 24;

// Cuts parts out of one dense FFN.
class Dense {
 public:
  explicit Dense(int64_t width, DType dtype) : width_(width), dtype_(dtype) {
    gate_ = RandomTensor("gate", width, kHidden);
    up_ = RandomTensor("up", width, kHidden);
    down_ = RandomTensor("down", kHidden, width);
  }

  FfnPart Cut(const std::vector<int>& neurons, uint64_t owners) {
    const auto n = static_cast<int64_t>(neurons.size());
    std::vector<float> gate, up, down;
    for (const int f : neurons) {
      gate.insert(gate.end(), gate_.begin() + f * kHidden, gate_.begin() + (f + 1) * kHidden);
      up.insert(up.end(), up_.begin() + f * kHidden, up_.begin() + (f + 1) * kHidden);
    }
    for (int64_t h = 0; h < kHidden; ++h) {
      for (const int f : neurons) down.push_back(down_[h * width_ + f]);
    }
    return {Keep(gate, n, kHidden), Keep(up, n, kHidden), Keep(down, kHidden, n),
            std::vector<uint64_t>(neurons.size(), owners)};
  }

 private:
  ConstTensor Keep(const std::vector<float>& values, int64_t rows, int64_t cols) {
    data_.push_back(EncodeTensor(values, dtype_));
    return MakeView(static_cast<const void*>(data_.back().data()), dtype_, rows, cols);
  }

  int64_t width_;
  DType dtype_;
  std::vector<float> gate_, up_, down_;
  std::deque<std::vector<uint8_t>> data_;
};

std::vector<uint64_t> OwnersOf(const std::vector<FfnPart>& parts) {
  return TieNeurons(parts).owners;
}

TEST(ReadMePool, FindsTheNeuronsThatExpertsShare) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    Dense dense(9, dtype);
    const NeuronPool pool = TieNeurons(std::vector<FfnPart>{
        dense.Cut({0, 1, 2, 3}, 0b001), dense.Cut({5, 3, 0}, 0b010), dense.Cut({8, 5}, 0b100)});
    // In the order in which they are first met: 0 1 2 3 | 5 | 8.
    EXPECT_EQ(pool.owners, (std::vector<uint64_t>{0b011, 0b001, 0b001, 0b011, 0b110, 0b100}));
    EXPECT_EQ(pool.neurons[4].part, 1);
    EXPECT_EQ(pool.neurons[4].neuron, 0);
    EXPECT_EQ(pool.neurons[5].part, 2);
    EXPECT_TRUE(pool.Shared());
  }
}

TEST(ReadMePool, AResidualBelongsToAll) {
  Dense dense(9, DType::kF32);
  EXPECT_EQ(OwnersOf({dense.Cut({0, 1}, 0b11), dense.Cut({2, 3}, 0b01), dense.Cut({3, 1}, 0b10)}),
            // The second expert's own 1 stands beside that of the residual: it counts twice there.
            (std::vector<uint64_t>{0b11, 0b11, 0b01, 0b11, 0b10}));
}

TEST(ReadMePool, ExpertsThatShareNothingStayApart) {
  Dense dense(8, DType::kF32);
  const NeuronPool pool =
      TieNeurons(std::vector<FfnPart>{dense.Cut({0, 1, 2}, 0b01), dense.Cut({3, 4}, 0b10)});
  EXPECT_EQ(pool.owners, (std::vector<uint64_t>{1, 1, 1, 2, 2}));
  EXPECT_FALSE(pool.Shared());
}

TEST(ReadMePool, OneBitMakesAnotherNeuron) {
  for (int matrix = 0; matrix < 3; ++matrix) {
    Dense dense(8, DType::kF32);
    const FfnPart second = dense.Cut({1, 0}, 0b10);
    // Of neuron 0, the last element of a row or column.
    char* element = nullptr;
    if (matrix == 0) element = const_cast<char*>(second.gate.Row<char>(1)) + 4 * (kHidden - 1);
    if (matrix == 1) element = const_cast<char*>(second.up.Row<char>(1)) + 4 * (kHidden - 1);
    if (matrix == 2) element = const_cast<char*>(second.down.Row<char>(kHidden - 1)) + 4;
    *element ^= 1;
    EXPECT_EQ(OwnersOf({dense.Cut({0, 1}, 0b01), second}), (std::vector<uint64_t>{1, 3, 2}))
        << matrix;
  }
}

// Dead neurons may all be equal. An expert's copies stay its own, and pair with another's one by
// one.
TEST(ReadMePool, EqualNeuronsOfOneExpertAreCountedAsOften) {
  Dense dense(8, DType::kF32);
  EXPECT_EQ(OwnersOf({dense.Cut({2, 2, 2}, 0b01), dense.Cut({2, 4, 2}, 0b10)}),
            (std::vector<uint64_t>{0b11, 0b11, 0b01, 0b10}));
}

TEST(ReadMePool, ASinglePartStaysAsItIs) {
  Dense dense(4, DType::kF32);
  FfnPart part = dense.Cut({0, 1, 1, 2}, 0);
  part.owners = {5, 0, 2, 7};
  const NeuronPool pool = TieNeurons({&part, 1});
  EXPECT_EQ(pool.owners, part.owners);
  EXPECT_EQ(pool.neurons[3].neuron, 3);
}

}  // namespace
}  // namespace pregate
