// Products of a layer of experts: many matrices with few rows each, and tied experts, which are
// lists of tiles of the same matrices.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/kernels/bench.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/weights.h"

namespace pregate {
namespace {

// Layers, so that the weights come from memory as in a model.
constexpr int64_t kWeightBytes = 96 << 20;

struct ExpertCase {
  std::string name;
  DType up;    // of gate and up, [ffn, hidden]
  DType down;  // [hidden, ffn]
  int64_t hidden;
  int64_t ffn;
  int64_t experts;
  int64_t chosen;  // of a row
  // Tied: one matrix of ffn neurons of which an expert owns some tiles; else one for each expert.
  bool tied;
};
// The shape of OLMoE, scaled down; SmolLM2 135M as seven tied experts, and the same as copies.
const std::vector<ExpertCase> kExpertCases = {
    {"olmoe", DType::kQ4_0, DType::kQ4_0, 1024, 512, 32, 4, false},
    {"tied", DType::kQ4_1, DType::kQ5_1, 576, 1536, 7, 1, true},
    {"copies", DType::kQ4_1, DType::kQ5_1, 576, 800, 7, 1, false},
};
const std::vector<int64_t> kBatches = {1, 7, 8, 16, 32, 64, 512};

// Tiles of expert e of a tied layer of 48: 16 belong to all, 27 to every third or so, 5 to nobody.
// 25 each, the latter scattered: neurons ordered by their owners lie in longer runs.
std::vector<int32_t> TilesOf(int64_t expert) {
  std::vector<int32_t> tiles;
  for (int32_t tile = 0; tile < 16; ++tile) tiles.push_back(tile);
  for (int32_t tile = 16; tile < 43; ++tile) {
    if ((tile * 5 + expert * 9) % 27 < 9) tiles.push_back(tile);
  }
  return tiles;
}

// One layer: its weights and what a step reads of them.
struct Layer {
  std::vector<PackedMatrix> gate, up, down;
};

// A step's products: rows dealt to experts, and the memory of their activations.
class Step {
 public:
  Step(const Kernels& kernels, const ExpertCase& c, int64_t rows) : kernels_(kernels), case_(c) {
    for (int64_t e = 0; e < c.experts; ++e) {
      // Rows choose experts by turns, a few apart: as even as a trained gate's load.
      int64_t count = 0;
      for (int64_t i = 0; i < rows * c.chosen; ++i) count += i * 5 % c.experts == e ? 1 : 0;
      if (count == 0) continue;
      experts_.push_back(e);
      tiles_.push_back(c.tied ? TilesOf(e) : std::vector<int32_t>());
      const int64_t width = c.tied ? 32 * static_cast<int64_t>(tiles_.back().size()) : c.ffn;
      x_.push_back(Quantised(count, c.hidden));
      middle_.push_back(Quantised(count, width));
      gate_.emplace_back(DType::kF32, count, width);
      up_.emplace_back(DType::kF32, count, width);
      down_.emplace_back(DType::kF32, count, c.hidden);
    }
  }

  // `turn` turns the choice of experts, so that those of the last turn need not be in a cache.
  void Run(const Layer& layer, int64_t turn) {
    const auto expert = [&](size_t i) {
      return case_.tied ? 0 : static_cast<size_t>((experts_[i] + turn) % case_.experts);
    };
    products_.clear();
    for (size_t i = 0; i < experts_.size(); ++i) {
      for (const auto& [weights, out] : {std::pair{&layer.gate, &gate_}, {&layer.up, &up_}}) {
        products_.push_back({.x = x_[i].view(),
                             .weight = (*weights)[expert(i)].view(),
                             .out_tiles = tiles_[i],
                             .out = (*out)[i].view()});
      }
    }
    kernels_.matmul(BenchDevice(), products_);
    products_.clear();
    for (size_t i = 0; i < experts_.size(); ++i) {
      products_.push_back({.x = middle_[i].view(),
                           .weight = layer.down[expert(i)].view(),
                           .in_tiles = tiles_[i],
                           .out = down_[i].view()});
    }
    kernels_.matmul(BenchDevice(), products_);
  }

  // Bytes of weights that a step needs: the union of its experts' neurons.
  double Bytes() const {
    const int64_t row = 2 * kernels_.packed_bytes(case_.up, 32, case_.hidden) +
                        kernels_.packed_bytes(case_.down, case_.hidden, 32);
    if (!case_.tied) {
      return static_cast<double>(row * case_.ffn / 32) * static_cast<double>(experts_.size());
    }
    std::vector<int32_t> all;
    for (const std::vector<int32_t>& tiles : tiles_) {
      all.insert(all.end(), tiles.begin(), tiles.end());
    }
    std::sort(all.begin(), all.end());
    return static_cast<double>(row * (std::unique(all.begin(), all.end()) - all.begin()));
  }
  double Operations() const {
    double operations = 0;
    for (const GuardedMatrix& gate : gate_) {
      operations += 6.0 * static_cast<double>(gate.view().rows * gate.view().cols * case_.hidden);
    }
    return operations;
  }

 private:
  GuardedMatrix Quantised(int64_t rows, int64_t cols) {
    GuardedMatrix quantised(DType::kQ16Act, rows, cols, 0);
    const GuardedMatrix x = RandomMatrix(rows, cols, 2);
    kernels_.quantize_rows(BenchDevice(), {{x.view(), quantised.view()}});
    return quantised;
  }

  const Kernels& kernels_;
  const ExpertCase& case_;
  std::vector<int64_t> experts_;
  std::vector<std::vector<int32_t>> tiles_;
  std::vector<GuardedMatrix> x_, middle_, gate_, up_, down_;
  std::vector<Product> products_;
};

// Layers of a case, packed by one table; kept until others are asked for.
const std::vector<Layer>& Layers(const ExpertCase& c, const Kernels& kernels) {
  static const ExpertCase* current_case = nullptr;
  static const Kernels* current_table = nullptr;
  static std::vector<Layer> layers;
  if (current_case == &c && current_table == &kernels) return layers;
  layers.clear();
  current_case = &c;
  current_table = &kernels;
  const int64_t count = c.tied ? 1 : c.experts;
  const int64_t layer_bytes = count * (2 * kernels.packed_bytes(c.up, c.ffn, c.hidden) +
                                       kernels.packed_bytes(c.down, c.hidden, c.ffn));
  const GuardedMatrix up = MakeWeights(c.up, c.ffn, c.hidden, 1);
  const GuardedMatrix down = MakeWeights(c.down, c.hidden, c.ffn, 2);
  for (int64_t i = 0; i < std::max<int64_t>(1, kWeightBytes / layer_bytes); ++i) {
    Layer& layer = layers.emplace_back();
    for (int64_t e = 0; e < count; ++e) {
      layer.gate.emplace_back(BenchDevice(), kernels, up.view());
      layer.up.emplace_back(BenchDevice(), kernels, up.view());
      layer.down.emplace_back(BenchDevice(), kernels, down.view(), c.tied);
    }
  }
  return layers;
}

void RunExperts(benchmark::State& state, const Kernels& kernels, const ExpertCase& c,
                int64_t rows) {
  const std::vector<Layer>& layers = Layers(c, kernels);
  Step step(kernels, c, rows);
  int64_t turn = 0;
  size_t next = 0;
  for (auto _ : state) {
    step.Run(layers[next], turn);
    if (++next == layers.size()) {
      next = 0;
      turn += c.chosen;
    }
  }
  SetRates(state, step.Bytes(), 0);
  SetIntegerRates(state, step.Operations());
}

}  // namespace

void RegisterGroupedBenchmarks() {
  for (const ExpertCase& c : kExpertCases) {
    for (const Kernels* kernels : BenchTables()) {
      if (kernels->activation_dtype[static_cast<int>(c.up)] == DType::kF32) continue;
      for (const int64_t rows : kBatches) {
        const std::string name =
            absl::StrCat("experts/", std::string(kernels->name), "/", c.name, "/", rows);
        benchmark::RegisterBenchmark(name.c_str(), [kernels, &c, rows](benchmark::State& state) {
          RunExperts(state, *kernels, c, rows);
        })->UseRealTime();
      }
    }
  }
}

}  // namespace pregate
