#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/logit_math.h"
#include "tests/kernels/bench.h"
#include "tests/kernels/kernel_cases.h"

namespace pregate {
namespace {

// One row of the report; `bytes` read or written by one call.
void Register(const std::string& name, double bytes, const std::function<void()>& call) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    for (auto _ : state) call();
    SetRates(state, bytes, 0);
  })->UseRealTime();
}

void RegisterLikeliest(const Kernels* k, const LikeliestCase& c) {
  Device& device = BenchDevice();
  const auto logits = std::make_shared<GuardedMatrix>(RandomMatrix(c.rows, c.vocab, 1, 12.0f));
  const double bytes = static_cast<double>(c.rows * c.vocab) * sizeof(float);
  for (const int32_t count : c.k) {
    struct Memory {
      std::vector<int32_t> ids;
      std::vector<float> values;
      std::vector<double> totals;
    };
    const size_t listed = static_cast<size_t>(c.rows) * static_cast<size_t>(count);
    const auto m =
        std::make_shared<Memory>(Memory{std::vector<int32_t>(listed), std::vector<float>(listed),
                                        std::vector<double>(static_cast<size_t>(c.rows))});
    Register(
        absl::StrCat("likeliest/", std::string(k->name), "/", c.rows, "x", c.vocab, "/k", count),
        bytes, [=, &device, vocab = c.vocab] {
          k->likeliest(device, logits->view(), vocab, count, m->ids.data(), m->values.data(),
                       m->totals.data());
        });
  }
}

void RegisterDraw(const Kernels* k, const DrawCase& c) {
  constexpr int32_t kRows = 4, kVocab = 128256;
  Device& device = BenchDevice();
  const auto logits = std::make_shared<GuardedMatrix>(RandomMatrix(kRows, kVocab, 2, 12.0f));
  for (int32_t r = 0; r < kRows && c.peaked; ++r) {
    for (int32_t i = 0; i < 64; ++i) logits->view().Row<float>(r)[i * 2000] += 20;
  }
  std::vector<TokenDraw> draws(kRows, c.draw);
  for (int32_t r = 0; r < kRows; ++r) {
    draws[static_cast<size_t>(r)].row = r;
    draws[static_cast<size_t>(r)].scale = WeightScale(1.0f);
    draws[static_cast<size_t>(r)].uniform = 0.2 * (r + 1);
  }
  const auto ids = std::make_shared<std::vector<int32_t>>(draws.size());
  const auto values = std::make_shared<std::vector<float>>(draws.size());
  Register(absl::StrCat("draw_tokens/", std::string(k->name), "/", kRows, "x", kVocab, "/", c.name),
           static_cast<double>(kRows) * kVocab * sizeof(float), [=, &device] {
             k->draw_tokens(device, logits->view(), kVocab, draws, ids->data(), values->data());
           });
}

// What the penalties of 16 rows with 1000 tokens each change.
void RegisterEdits(const Kernels* k) {
  constexpr int32_t kRows = 16, kVocab = 128256, kEdits = 1000;
  Device& device = BenchDevice();
  const auto logits = std::make_shared<GuardedMatrix>(RandomMatrix(kRows, kVocab, 3, 12.0f));
  std::vector<LogitEdit> edits;
  std::vector<LogitPlace> places;
  for (int32_t i = 0; i < kRows * kEdits; ++i) {
    places.push_back({i / kEdits, i % kEdits * 128});
    // Without an effect in the end, so that the numbers stay what they are.
    edits.push_back({.place = places.back(), .bias = 0.0f, .repetition = 1.0f, .penalty = 0.0f});
  }
  const auto values = std::make_shared<std::vector<float>>(places.size());
  const std::string name = absl::StrCat("/", std::string(k->name), "/", kRows, "x", kEdits);
  const auto count = static_cast<double>(places.size());
  Register("edit_logits" + name, count * (sizeof(LogitEdit) + 2 * sizeof(float)),
           [=, &device] { k->edit_logits(device, logits->view(), edits); });
  Register("gather_logits" + name, count * (sizeof(LogitPlace) + 2 * sizeof(float)),
           [=, &device] { k->gather_logits(device, logits->view(), places, values->data()); });
}

}  // namespace

// CPU tables share the reference's entries, which serve devices that the host cannot read.
void RegisterLogitsBenchmarks() {
  const Kernels* const kernels = &ReferenceKernels();
  for (const LikeliestCase& c : kLikeliestCases) {
    if (c.rows * c.vocab >= 8192) RegisterLikeliest(kernels, c);
  }
  for (const DrawCase& c : kDrawCases) RegisterDraw(kernels, c);
  RegisterEdits(kernels);
}

}  // namespace pregate
