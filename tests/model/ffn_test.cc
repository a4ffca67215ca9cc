// The one FFN on weights made by hand, against plain loops in double: gates of every kind, shared
// experts, experts named by the plan, parts and tiles of blocks; and rows alone as in a batch.
#include "engine/model/ffn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/model/random_model.h"

namespace pregate {
namespace {

constexpr int64_t kHidden = 64;

struct HostBlock {
  std::vector<float> gate, up, down;  // [n, H], [n, H], [H, n]
};

ModelConfig SmallConfig() {
  ModelConfig config;
  config.num_layers = 1;
  config.hidden_size = kHidden;
  config.num_heads = config.num_kv_heads = 1;
  config.head_dim = 64;
  config.vocab_size = 8;
  config.inv_freq.assign(32, 1.0f);
  return config;
}

double Dot(const float* a, const float* b) { return std::inner_product(a, a + kHidden, b, 0.0); }

// An FFN in the making, on one table of kernels.
class FfnUnderTest {
 public:
  FfnUnderTest(const Kernels& kernels, DType dtype, DType activations)
      : kernels_(kernels),
        dtype_(dtype),
        activations_(activations),
        device_(MakeCpuDevice(2)),
        ffn_(config_, device_.get(), &kernels, activations, nullptr) {}

  void AddBlock(int64_t neurons) {
    const std::string name = absl::StrCat("block", host_.size());
    HostBlock host;
    NeuronBlock block;
    block.gate = Matrix(name + "gate", neurons, kHidden, &host.gate);
    block.up = Matrix(name + "up", neurons, kHidden, &host.up);
    block.down = Matrix(name + "down", kHidden, neurons, &host.down);
    weights.blocks.push_back(block);
    host_.push_back(std::move(host));
  }

  // Of the whole block `index`.
  void AddExpertOfBlock(int64_t neurons) {
    AddBlock(neurons);
    weights.experts.push_back({{{static_cast<int32_t>(host_.size()) - 1, {}}}, {}, neurons});
  }

  void AddGate(int64_t experts) {
    weights.gate = Matrix("gate", experts, kHidden, &gate_);
    weights.gate.input = DType::kF32;
  }
  void AddSharedGate() {
    weights.shared_gate = Matrix("shared_gate", 1, kHidden, &shared_gate_);
    weights.shared_gate.input = DType::kF32;
  }

  // FFN(x) [rows, H]; `expert_ids` as of a plan.
  std::vector<float> Run(const std::vector<float>& x, std::vector<int32_t> expert_ids = {}) {
    const int64_t rows = static_cast<int64_t>(x.size()) / kHidden;
    FfnShape shape;
    shape.Cover(weights, weights.gate ? config_.mixture.gate.k : 1);
    const auto memory = AllocateActivations(config_, shape, device_.get(), rows, 1);
    EXPECT_TRUE(memory.ok());
    const Activations a = memory->all.Narrow(rows, 0);
    std::copy(x.begin(), x.end(), a.normed.Row<float>(0));
    BatchPlan plan;
    plan.token_ids.resize(static_cast<size_t>(rows));
    plan.expert_ids = std::move(expert_ids);
    ffn_.StartStep(plan, weights.num_routed(), a);
    EXPECT_TRUE(ffn_.Run(weights, 0, a).ok());
    return {a.projected.Row<float>(0), a.projected.Row<float>(0) + x.size()};
  }

  // What expert `e` makes of one row.
  std::vector<double> ExpertOf(int32_t e, const float* x) const {
    const Expert& expert = weights.experts[static_cast<size_t>(e)];
    std::vector<double> y(kHidden);
    int64_t column = 0;  // of the expert
    for (const ExpertPart& part : expert.parts) {
      const HostBlock& block = host_[static_cast<size_t>(part.block)];
      const int64_t neurons = static_cast<int64_t>(block.down.size()) / kHidden;
      std::vector<int64_t> list;
      for (const int32_t tile : part.tiles) {
        for (int64_t i = 0; i < 32; ++i) list.push_back(32 * tile + i);
      }
      if (part.tiles.empty()) {
        list.resize(static_cast<size_t>(neurons));
        std::iota(list.begin(), list.end(), 0);
      }
      for (const int64_t n : list) {
        const int64_t c = column++;
        if (!expert.owned.empty() && (expert.owned[c / 32] >> (c % 32) & 1) == 0) continue;
        const double gate = Dot(&block.gate[n * kHidden], x);
        const double hidden = gate / (1 + std::exp(-gate)) * Dot(&block.up[n * kHidden], x);
        for (int64_t i = 0; i < kHidden; ++i) y[i] += hidden * block.down[i * neurons + n];
      }
    }
    return y;
  }

  // Experts of one row by the gate, with their weights, best first.
  std::vector<std::pair<double, int32_t>> Chosen(const float* x) const {
    const GateParams& gate = config_.mixture.gate;
    std::vector<std::pair<double, int32_t>> scores;
    double sum = 0;
    for (int32_t e = 0; e < weights.num_routed(); ++e) {
      const double logit = Dot(&gate_[e * kHidden], x);
      const bool sigmoid = gate.scoring == GateParams::Scoring::kSigmoid;
      scores.emplace_back(sigmoid ? 1 / (1 + std::exp(-logit)) : std::exp(logit), e);
      sum += scores.back().first;
    }
    if (gate.scoring == GateParams::Scoring::kSoftmax) {
      for (auto& [score, e] : scores) score /= sum;
    }
    std::sort(scores.rbegin(), scores.rend());
    scores.resize(static_cast<size_t>(gate.k));
    double best = 0;
    for (const auto& [score, e] : scores) best += score;
    for (auto& [score, e] : scores) score *= gate.scale / (gate.renormalize ? best : 1);
    return scores;
  }

  std::vector<double> MixtureOf(const float* x) const {
    std::vector<double> y(kHidden);
    auto chosen = Chosen(x);
    if (weights.shared_expert >= 0) {
      const bool gated = static_cast<bool>(weights.shared_gate);
      const double open = gated ? 1 / (1 + std::exp(-Dot(shared_gate_.data(), x))) : 1.0;
      chosen.emplace_back(open, weights.shared_expert);
    }
    for (const auto& [weight, e] : chosen) {
      const std::vector<double> part = ExpertOf(e, x);
      for (int64_t i = 0; i < kHidden; ++i) y[i] += weight * part[i];
    }
    return y;
  }

  GateParams& gate() { return config_.mixture.gate; }
  FfnWeights weights;

 private:
  Linear Matrix(const std::string& name, int64_t rows, int64_t cols, std::vector<float>* values) {
    *values = RandomTensor(name, rows, cols);
    const std::vector<uint8_t> bytes = EncodeTensor(*values, dtype_);
    const auto size = static_cast<size_t>(kernels_.packed_bytes(dtype_, rows, cols));
    auto buffer = device_->Allocate(size);
    const bool by_tiles = name.ends_with("down") && cols % 32 == 0;
    kernels_.pack(*device_, MakeView(bytes.data(), dtype_, rows, cols), by_tiles, buffer->data());
    Linear linear;
    linear.weight = {buffer->data(), dtype_, rows, cols, by_tiles};
    const DType wanted = kernels_.activation_dtype[static_cast<size_t>(dtype_)];
    if (wanted == DType::kQ16Act && cols % 32 == 0) linear.input = activations_;
    memory_.push_back(*std::move(buffer));
    return linear;
  }

  const Kernels& kernels_;
  const DType dtype_, activations_;
  ModelConfig config_ = SmallConfig();
  std::unique_ptr<Device> device_;
  std::vector<DeviceBuffer> memory_;
  std::vector<HostBlock> host_;
  std::vector<float> gate_, shared_gate_;
  Ffn ffn_;
};

std::vector<float> Rows(int64_t rows) { return RandomTensor("x", rows, kHidden); }

void ExpectRow(const std::vector<double>& want, const float* got) {
  for (int64_t i = 0; i < kHidden; ++i) ASSERT_NEAR(got[i], want[i], 2e-6) << "column " << i;
}

class FfnTest : public testing::TestWithParam<CpuTable> {
 protected:
  void SetUp() override {
    if (!GetParam().runnable) GTEST_SKIP() << "this machine cannot run the table";
  }
  const Kernels& kernels() { return *GetParam().kernels; }
};

TEST_P(FfnTest, Dense) {
  FfnUnderTest ffn(kernels(), DType::kF32, DType::kF32);
  ffn.AddExpertOfBlock(75);
  for (const int64_t rows : {1, 3, 40}) {
    const std::vector<float> x = Rows(rows), y = ffn.Run(x);
    for (int64_t r = 0; r < rows; ++r) ExpectRow(ffn.ExpertOf(0, &x[r * kHidden]), &y[r * kHidden]);
  }
}

TEST_P(FfnTest, GatesOfEveryKind) {
  constexpr int64_t kWidths[] = {64, 96, 33, 64, 7};  // of each expert its own
  enum class Shared { kNone, kUngated, kGated };
  for (const Shared shared : {Shared::kNone, Shared::kUngated, Shared::kGated}) {
    FfnUnderTest ffn(kernels(), DType::kF32, DType::kF32);
    for (const int64_t width : kWidths) ffn.AddExpertOfBlock(width);
    ffn.AddGate(std::size(kWidths));
    if (shared != Shared::kNone) {
      ffn.weights.shared_expert = std::size(kWidths);
      ffn.AddExpertOfBlock(160);
    }
    if (shared == Shared::kGated) ffn.AddSharedGate();
    for (const auto scoring : {GateParams::Scoring::kSoftmax, GateParams::Scoring::kSigmoid}) {
      for (const int32_t k : {1, 2, 5}) {
        ffn.gate() = {
            .k = k, .scoring = scoring, .renormalize = k == 2, .scale = k == 1 ? 2.5f : 1};
        SCOPED_TRACE(absl::StrCat("shared ", int(shared), ", scoring ", int(scoring), ", k ", k));
        for (const int64_t rows : {1, 2, 33}) {
          const std::vector<float> x = Rows(rows), y = ffn.Run(x);
          for (int64_t r = 0; r < rows; ++r) {
            ExpectRow(ffn.MixtureOf(&x[r * kHidden]), &y[r * kHidden]);
          }
        }
      }
    }
  }
}

// Experts that overlap in one block, some of its neurons masked, and one that adds parts of three
// blocks: what a Read-ME model of tied experts is made of.
void AddTiedExperts(FfnUnderTest& ffn) {
  for (const int64_t neurons : {160, 32, 96}) ffn.AddBlock(neurons);
  ffn.weights.experts = {
      {{{0, {0, 1, 4}}}, {0xffffffff, 0x0f0f0f0f, 0x00000001}, 96},
      {{{0, {1, 2}}}, {}, 64},
      {{{0, {0, 1, 2, 3, 4}}}, {}, 160},
      {{{0, {3}}, {1, {}}, {2, {0, 2}}}, {0xaaaaaaaa, 0xffffffff, 0x1, 0xffff0000}, 128},
  };
}

TEST_P(FfnTest, ExpertsThatThePlanNames) {
  FfnUnderTest ffn(kernels(), DType::kF32, DType::kF32);
  AddTiedExperts(ffn);
  const std::vector<std::vector<int32_t>> plans = {
      {2}, {3}, {0, 3, 0}, {1, 1, 1, 1}, {3, 2, 1, 0, 3, 3, 3, 0, 1, 2, 0, 0, 3}};
  for (const std::vector<int32_t>& ids : plans) {
    const std::vector<float> x = Rows(static_cast<int64_t>(ids.size())), y = ffn.Run(x, ids);
    for (size_t r = 0; r < ids.size(); ++r) {
      ExpectRow(ffn.ExpertOf(ids[r], &x[r * kHidden]), &y[r * kHidden]);
    }
  }
}

// To the bit, with float and with quantised activations.
TEST_P(FfnTest, RowsDoNotDependOnTheirBatch) {
  constexpr int64_t kRows = 50;
  const std::vector<float> x = Rows(kRows);
  std::vector<int32_t> ids;
  for (int64_t r = 0; r < kRows; ++r) ids.push_back(static_cast<int32_t>(r * r % 7 % 4));
  for (const DType activations : {DType::kF32, DType::kQ16Act, DType::kQ8Act}) {
    FfnUnderTest gated(kernels(), DType::kQ8_0, activations);
    for (int e = 0; e < 8; ++e) gated.AddExpertOfBlock(64);
    gated.AddGate(8);
    gated.gate().k = 3;
    gated.weights.shared_expert = 8;
    gated.AddExpertOfBlock(96);
    gated.AddSharedGate();
    FfnUnderTest planned(kernels(), DType::kQ8_0, activations);
    AddTiedExperts(planned);
    const std::vector<float> all = gated.Run(x), all_planned = planned.Run(x, ids);
    for (int64_t r = 0; r < kRows; ++r) {
      const std::vector<float> row(&x[r * kHidden], &x[r * kHidden] + kHidden);
      const auto slice = [&](const std::vector<float>& y) {
        return std::vector<float>(&y[r * kHidden], &y[r * kHidden] + kHidden);
      };
      ASSERT_EQ(gated.Run(row), slice(all)) << "row " << r;
      ASSERT_EQ(planned.Run(row, {ids[r]}), slice(all_planned)) << "row " << r;
    }
  }
}

std::vector<CpuTable> Tables() {
  std::vector<CpuTable> tables = AllCpuTables();
  tables.push_back({&ReferenceKernels(), true});
  return tables;
}
INSTANTIATE_TEST_SUITE_P(Tables, FfnTest, testing::ValuesIn(Tables()),
                         [](const auto& info) { return std::string(info.param.kernels->name); });

TEST(RowsByExpert, Sort) {
  RowsByExpert sorted;
  sorted.Sort({2, 0, 0, 3, 3, 2}, 2, 5);  // rows (2, 0), (0, 3), (3, 2)
  EXPECT_THAT(sorted.start, testing::ElementsAre(0, 2, 2, 4, 6, 6));
  EXPECT_THAT(sorted.rows, testing::ElementsAre(0, 1, 0, 2, 1, 2));
  EXPECT_THAT(sorted.positions, testing::ElementsAre(2, 0, 1, 4, 5, 3));
  sorted.Sort({-1, 1, 1, -1, -1, -1}, 2, 3);  // some are other ranks'
  EXPECT_THAT(sorted.start, testing::ElementsAre(0, 0, 2, 2));
  EXPECT_THAT(sorted.rows, testing::ElementsAre(0, 1));
  EXPECT_THAT(sorted.positions, testing::ElementsAre(-1, 0, 1, -1, -1, -1));
}

}  // namespace
}  // namespace pregate
