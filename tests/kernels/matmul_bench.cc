// Matrix products on the shapes of real models.
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

struct WeightCase {
  DType dtype;
  int64_t rows;  // N
  int64_t cols;  // K
};

// SmolLM2 135M, Gemma 3 270M, a Llama of 1.5 B, MiniLM, and plain types.
const std::vector<WeightCase> kWeightCases = {
    {DType::kQ4_1, 576, 576},       {DType::kQ4_1, 192, 576},   {DType::kQ4_1, 1536, 576},
    {DType::kQ4_1, 576, 1536},      {DType::kQ8_0, 49152, 576}, {DType::kQ5_0, 2048, 640},
    {DType::kQ8_0, 256, 640},       {DType::kQ4_K, 640, 1024},  {DType::kQ6_K, 640, 2048},
    {DType::kQ4_K, 2048, 2048},     {DType::kQ4_K, 8192, 2048}, {DType::kQ6_K, 2048, 8192},
    {DType::kQ13, 384, 384},        {DType::kQ13, 1536, 384},   {DType::kQ13, 384, 1536},
    {DType::kF32, 384, 384},        {DType::kF32, 1536, 384},   {DType::kF32, 384, 1536},
    {DType::kF16, 2048, 2048},      {DType::kBF16, 2048, 2048}, {DType::kF32, 2048, 2048},
    {DType::kF8Blocks, 2048, 2048},
};
const std::vector<int64_t> kBatches = {1, 4, 8, 32, 128, 512};

// A step of a model reads each matrix once: copies make the weights come from memory as they do
// there, up to this many bytes.
constexpr int64_t kWeightBytes = 96 << 20;

// Copies of the case's matrix, packed by one table; kept until another is asked for.
const std::vector<PackedMatrix>& Copies(const WeightCase& c, const Kernels& kernels) {
  static const WeightCase* current_case = nullptr;
  static const Kernels* current_table = nullptr;
  static std::vector<PackedMatrix> copies;
  if (current_case != &c || current_table != &kernels) {
    copies.clear();
    const GuardedMatrix matrix = c.dtype == DType::kQ13 ? MakeQ13Weights(c.rows, c.cols, 1)
                                                        : MakeWeights(c.dtype, c.rows, c.cols, 1);
    const int64_t count =
        std::max<int64_t>(1, kWeightBytes / kernels.packed_bytes(c.dtype, c.rows, c.cols));
    for (int64_t i = 0; i < count; ++i) copies.emplace_back(BenchDevice(), kernels, matrix.view());
    current_case = &c;
    current_table = &kernels;
  }
  return copies;
}

void RunMatmul(benchmark::State& state, const Kernels& kernels, const WeightCase& c, int64_t batch,
               DType activation) {
  Device& device = BenchDevice();
  const std::vector<PackedMatrix>& copies = Copies(c, kernels);
  const GuardedMatrix x = RandomMatrix(batch, c.cols, 2);
  const bool integer = activation != DType::kF32;
  const GuardedMatrix quantised(integer ? activation : DType::kQ16Act, batch, c.cols, 0);
  kernels.quantize_rows(device, {{x.view(), quantised.view()}});
  const ConstTensor left = integer ? quantised.view() : x.view();
  const GuardedMatrix out(DType::kF32, batch, c.rows);
  size_t next = 0;
  for (auto _ : state) {
    kernels.matmul(device, {{.x = left, .weight = copies[next].view(), .out = out.view()}});
    next = (next + 1) % copies.size();
  }
  const double operations = 2.0 * static_cast<double>(batch * c.rows * c.cols);
  const auto bytes = static_cast<double>(kernels.packed_bytes(c.dtype, c.rows, c.cols));
  SetRates(state, bytes, activation == DType::kF32 ? operations : 0);
  if (activation != DType::kF32) SetIntegerRates(state, operations);
}

void RegisterCase(const Kernels& kernels, const WeightCase& c, int64_t batch, DType activation) {
  const std::string name = absl::StrCat(
      "matmul/", std::string(kernels.name), "/", std::string(GetDTypeInfo(c.dtype).name), "_",
      c.rows, "x", c.cols, "/", std::string(GetDTypeInfo(activation).name), "_", batch);
  benchmark::RegisterBenchmark(name.c_str(), [&kernels, &c, batch,
                                              activation](benchmark::State& state) {
    RunMatmul(state, kernels, c, batch, activation);
  })->UseRealTime();
}

}  // namespace

void RegisterMatmulBenchmarks() {
  for (const WeightCase& c : kWeightCases) {
    for (const Kernels* kernels : BenchTables()) {
      for (const DType activation : {DType::kF32, DType::kQ16Act, DType::kQ8Act}) {
        const DType wanted = kernels->activation_dtype[static_cast<int>(c.dtype)];
        if (activation != DType::kF32 && wanted == DType::kF32) continue;
        for (const int64_t batch : kBatches) RegisterCase(*kernels, c, batch, activation);
      }
    }
  }
}

}  // namespace pregate
