#include <functional>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "tests/kernels/bench.h"
#include "tests/kernels/kernel_cases.h"

namespace pregate {
namespace {

// One row of the report: an entry on matrices of one shape. `bytes` moved by one call.
void Register(const char* entry, const Kernels* kernels, const MatrixCase& c, double bytes,
              const std::function<void()>& call) {
  const std::string name =
      absl::StrCat(entry, "/", std::string(kernels->name), "/", c.rows, "x", c.cols);
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    for (auto _ : state) call();
    SetRates(state, bytes, 0);
  })->UseRealTime();
}

void RegisterMatrixCase(const Kernels* k, const MatrixCase& c) {
  struct Memory {
    GuardedMatrix a, b, out, weight;
    std::vector<int32_t> rows;
  };
  const auto m = std::make_shared<Memory>(Memory{RandomMatrix(c.rows, c.cols, 1),
                                                 RandomMatrix(c.rows, c.cols, 2),
                                                 GuardedMatrix(DType::kF32, c.rows, c.cols),
                                                 RandomMatrix(1, c.cols, 3),
                                                 {}});
  m->rows.resize(static_cast<size_t>(c.rows));
  std::iota(m->rows.rbegin(), m->rows.rend(), 0);
  const double matrix = static_cast<double>(c.rows * c.cols) * sizeof(float);
  Device& device = BenchDevice();
  Register("rms_norm", k, c, 2 * matrix, [=, &device] {
    k->rms_norm(device, m->a.view(), m->weight.view(), 0.0f, 1e-5f, m->out.view());
  });
  Register("silu", k, c, 3 * matrix, [=, &device] {
    k->gated_activation(device, Activation::kSilu, {{m->a.view(), m->b.view(), {}, m->out.view()}});
  });
  Register("gelu", k, c, 3 * matrix, [=, &device] {
    k->gated_activation(device, Activation::kGeluTanh,
                        {{m->a.view(), m->b.view(), {}, m->out.view()}});
  });
  Register("gelu_erf", k, c, 2 * matrix, [=, &device] {
    k->gated_activation(device, Activation::kGelu, {{m->a.view(), {}, {}, m->out.view()}});
  });
  Register("layer_norm", k, c, 3 * matrix, [=, &device] {
    k->layer_norm(device, m->a.view(), m->b.view(), m->weight.view(), m->weight.view(), 1e-12f,
                  m->out.view());
  });
  Register("add", k, c, 3 * matrix,
           [=, &device] { k->add(device, m->a.view(), m->b.view(), m->out.view()); });
  Register("gather_rows", k, c, 2 * matrix,
           [=, &device] { k->gather_rows(device, m->a.view(), m->rows.data(), m->out.view()); });
}

void RegisterRopeCase(const Kernels* k, const RopeCase& c) {
  const MatrixCase shape = {c.rows, c.heads * c.head_dim};
  const auto x = std::make_shared<GuardedMatrix>(RandomMatrix(shape.rows, shape.cols, 1));
  // Turns by nothing, so that the numbers stay what they are however often it runs.
  const auto table = std::make_shared<GuardedMatrix>(DType::kF32, c.rows, c.rotated);
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t i = 0; i < c.rotated; ++i) table->view().Row<float>(r)[i] = i % 2 == 0 ? 1 : 0;
  }
  Device& device = BenchDevice();
  for (const RopeStyle style : {RopeStyle::kHalves, RopeStyle::kInterleaved}) {
    Register(
        style == RopeStyle::kHalves ? "rope_halves" : "rope_interleaved", k, shape,
        2.0 * static_cast<double>(c.rows * c.heads * c.rotated) * sizeof(float),
        [=, &device, dim = c.head_dim] { k->rope(device, x->view(), dim, table->view(), style); });
  }
}

// What a parallel loop costs before it does anything.
void RegisterForkJoin() {
  benchmark::RegisterBenchmark("fork_join", [](benchmark::State& state) {
    Device& device = BenchDevice();
    for (auto _ : state) {
      device.ParallelFor(device.num_threads(), 1,
                         [](int64_t begin, int64_t) { benchmark::DoNotOptimize(begin); });
    }
  })->UseRealTime();
}

}  // namespace

void RegisterElementwiseBenchmarks() {
  RegisterForkJoin();
  for (const Kernels* kernels : BenchTables()) {
    for (const MatrixCase& c : kMatrixCases) {
      if (c.rows * c.cols >= 8192) RegisterMatrixCase(kernels, c);
    }
    for (const RopeCase& c : kRopeCases) {
      if (c.rows * c.heads * c.rotated >= 512) RegisterRopeCase(kernels, c);
    }
  }
}

}  // namespace pregate
