// Real models against transformers on the same GGUF dequantised to float32: what probability each
// gives to the next token of a text, and which token it would choose. The reference numbers were
// made by tests/tools/make_parity_goldens.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <string>

#include "tests/model/changed_model.h"
#include "tests/model/model_runner.h"
#include "tests/sample_models.h"

namespace pregate {
namespace {

struct Golden {
  int32_t windows = 0;
  int32_t length = 0;
  std::vector<int32_t> token_ids;  // [windows, length]
  std::vector<int32_t> top;        // [windows, length - 1] likeliest next token
  std::vector<float> logprobs;     // [windows, length - 1] of the next token
};

template <typename T>
void ReadInto(std::istream& in, std::vector<T>& values, int64_t count) {
  values.resize(static_cast<size_t>(count));
  in.read(reinterpret_cast<char*>(values.data()), count * static_cast<int64_t>(sizeof(T)));
}

Golden ReadGolden(const std::string& model) {
  std::ifstream in("tests/testdata/parity/" + model + ".bin", std::ios::binary);
  std::vector<int32_t> head;
  ReadInto(in, head, 2);
  Golden golden;
  golden.windows = head[0];
  golden.length = head[1];
  const int64_t predictions = int64_t{golden.windows} * (golden.length - 1);
  ReadInto(in, golden.token_ids, int64_t{golden.windows} * golden.length);
  ReadInto(in, golden.top, predictions);
  ReadInto(in, golden.logprobs, predictions);
  EXPECT_TRUE(in.good()) << model;
  return golden;
}

int32_t ArgMax(absl::Span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

double LogSumExp(absl::Span<const float> logits, float largest) {
  double sum = 0;
  for (const float logit : logits) {
    // What is left out is less than 1e-8 of the sum, for a vocabulary of 2^18.
    if (logit > largest - 32) sum += std::exp(logit - largest);
  }
  return largest + std::log(sum);
}

struct Comparison {
  int64_t predictions = 0;
  int64_t agreed = 0;  // on the likeliest token
  double logprob_sum = 0, golden_sum = 0;
  double largest_difference = 0;

  double perplexity() const { return std::exp(-logprob_sum / static_cast<double>(predictions)); }
  double golden_perplexity() const {
    return std::exp(-golden_sum / static_cast<double>(predictions));
  }
  double perplexity_error() const { return std::fabs(perplexity() / golden_perplexity() - 1); }
  double agreement() const {
    return static_cast<double>(agreed) / static_cast<double>(predictions);
  }
};

Comparison Compare(ModelRunner& runner, const Golden& golden, int32_t windows, int32_t chunk) {
  Comparison result;
  for (int32_t w = 0; w < windows; ++w) {
    const absl::Span<const int32_t> ids =
        absl::MakeConstSpan(golden.token_ids).subspan(size_t(w) * golden.length, golden.length);
    const size_t first = static_cast<size_t>(w) * static_cast<size_t>(golden.length - 1);
    runner.Forget(0);
    for (size_t p = 0; p + 1 < ids.size(); p += static_cast<size_t>(chunk)) {
      const Tensor logits = runner.Step({{0, ids.subspan(p, static_cast<size_t>(chunk))}});
      for (int64_t r = 0; r < logits.rows; ++r) {
        const size_t position = p + static_cast<size_t>(r);
        if (position + 1 == ids.size()) break;  // nothing follows
        const absl::Span<const float> row(logits.Row<float>(r), static_cast<size_t>(logits.cols));
        const int32_t top = ArgMax(row);
        const double logprob = row[static_cast<size_t>(ids[position + 1])] -
                               LogSumExp(row, row[static_cast<size_t>(top)]);
        const double expected = golden.logprobs[first + position];
        result.logprob_sum += logprob;
        result.golden_sum += expected;
        result.largest_difference =
            std::max(result.largest_difference, std::fabs(logprob - expected));
        result.agreed += top == golden.top[first + position];
        ++result.predictions;
      }
    }
  }
  return result;
}

struct Path {
  const char* name;
  DType activations;
  DType kv_dtype;
  int32_t windows;  // how much of the text
  double perplexity_bar, agreement_bar;
};

void CheckModel(const std::string& model) {
  const std::string path = SampleModelPath(model + ".gguf");
  if (path.empty()) GTEST_SKIP() << model << " is not in the model cache (deploy/fetch_model.sh)";
  const auto file = ModelFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const Golden golden = ReadGolden(model);
  constexpr int32_t kWindows = 4;  // of 1,023 predictions each
  ASSERT_LE(kWindows, golden.windows);
  const Path paths[] = {
      {"float", DType::kF32, DType::kF32, kWindows, 0.0005, 0.999},
      {"16 bits", DType::kQ16Act, DType::kF16, kWindows, 0.005, 0.99},
      {"16 bits, q8_0 kv", DType::kQ16Act, DType::kQ8_0, 1, 0.005, 0.98},
      {"16 bits, bf16 kv", DType::kQ16Act, DType::kBF16, 1, 0.005, 0.98},
      {"16 bits, fp8 kv", DType::kQ16Act, DType::kF8E4M3, 1, 0.02, 0.93},
      {"8 bits", DType::kQ8Act, DType::kF16, kWindows, 0.01, 0.95},
  };
  const auto kernels = CpuKernels();
  ASSERT_TRUE(kernels.ok());
  for (const Path& p : paths) {
    ModelRunner::Options options;
    options.activations = p.activations;
    options.kv_dtype = p.kv_dtype;
    options.max_tokens = golden.length;
    options.max_rows = 128;
    ModelRunner runner(**file, **kernels, options);
    const Comparison got = Compare(runner, golden, p.windows, options.max_rows);
    printf(
        "%-28s %-12s %-19s %6lld tokens  ppl %.5f (%.5f)  error %.4f%%  top-1 %.3f%%  "
        "max |dlogprob| %.2g\n",
        model.c_str(), std::string((*kernels)->name).c_str(), p.name,
        static_cast<long long>(got.predictions), got.perplexity(), got.golden_perplexity(),
        100 * got.perplexity_error(), 100 * got.agreement(), got.largest_difference);
    EXPECT_LE(got.perplexity_error(), p.perplexity_bar) << p.name;
    EXPECT_GE(got.agreement(), p.agreement_bar) << p.name;
  }
}

// The same weights as floats, quantised again when they are loaded: 8 bits lose nothing that can be
// seen, 5 bits a lot of a model as small as this (seen: 0.007 % and 12 %).
TEST(Parity, QuantizedAtLoad) {
  const std::string model = "SmolLM2-135M-Instruct.Q4_1";
  const std::string path = SampleModelPath(model + ".gguf");
  if (path.empty()) GTEST_SKIP() << model << " is not in the model cache (deploy/fetch_model.sh)";
  const auto file = ModelFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const ChangedModel floats(**file, DType::kBF16);
  const Golden golden = ReadGolden(model);
  const auto kernels = CpuKernels();
  ASSERT_TRUE(kernels.ok());
  const struct {
    std::optional<DType> dtype;
    double perplexity_bar, agreement_bar;
  } cases[] = {{std::nullopt, 0.005, 0.98}, {DType::kQ8_0, 0.005, 0.97}, {DType::kQ5_1, 0.2, 0.7}};
  for (const auto& [dtype, perplexity_bar, agreement_bar] : cases) {
    ModelRunner runner(floats, **kernels,
                       {.quantization = dtype,
                        .kv_dtype = DType::kF16,
                        .max_tokens = golden.length,
                        .max_rows = 128});
    const Comparison got = Compare(runner, golden, /*windows=*/1, 128);
    const std::string name(GetDTypeInfo(dtype.value_or(DType::kBF16)).name);
    printf("%-28s bf16 as %-6s ppl %.5f (%.5f)  error %.4f%%  top-1 %.3f%%\n", model.c_str(),
           name.c_str(), got.perplexity(), got.golden_perplexity(), 100 * got.perplexity_error(),
           100 * got.agreement());
    EXPECT_LE(got.perplexity_error(), perplexity_bar) << name;
    EXPECT_GE(got.agreement(), agreement_bar) << name;
  }
}

TEST(Parity, SmolLM2) { CheckModel("SmolLM2-135M-Instruct.Q4_1"); }
TEST(Parity, Gemma3) { CheckModel("gemma-3-270m-q4_k_m"); }

}  // namespace
}  // namespace pregate
