// The real fixture, router and masks over SmolLM2-135M, against PyTorch on the same file
// dequantised to float32: the expert of each token of a text, what probability the routed model
// gives to the next token, and which it would choose. tests/tools/make_read_me_goldens.py made the
// reference.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "engine/model/read_me_overlay.h"
#include "kernels/kernels.h"
#include "tests/model/model_runner.h"
#include "tests/sample_models.h"

namespace pregate {
namespace {

constexpr char kModel[] = "SmolLM2-135M-Instruct.Q4_1";
constexpr size_t kWindows = 5, kLength = 1024;
constexpr size_t kRoutedWindows = 2;  // that the whole model runs over

template <typename T>
std::vector<T> Read(std::istream& in, size_t count) {
  std::vector<T> values(count);
  in.read(reinterpret_cast<char*>(values.data()), static_cast<int64_t>(count * sizeof(T)));
  EXPECT_TRUE(in.good());
  return values;
}

class ReadMeReal : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = SampleModelPath(std::string(kModel) + ".gguf");
    if (path.empty()) GTEST_SKIP() << "deploy/fetch_model.sh smollm2 fetches the model";
    auto dense = ModelFile::Open(path);
    ASSERT_TRUE(dense.ok()) << dense.status();
    auto file = LayReadMeOver(*std::move(dense), "tests/testdata/read_me_smollm2");
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
    std::ifstream text(std::string("tests/testdata/parity/") + kModel + ".bin", std::ios::binary);
    ASSERT_EQ(Read<int32_t>(text, 2), (std::vector<int32_t>{kWindows, kLength}));
    ids_ = Read<int32_t>(text, kWindows * kLength);
    std::ifstream goldens(std::string("tests/testdata/read_me/") + kModel + ".bin",
                          std::ios::binary);
    experts_ = Read<uint8_t>(goldens, kWindows * kLength);
    top_ = Read<int32_t>(goldens, kWindows * (kLength - 1));
    logprobs_ = Read<float>(goldens, kWindows * (kLength - 1));
  }

  absl::Span<const int32_t> Window(size_t w) const {
    return absl::MakeConstSpan(ids_).subspan(w * kLength, kLength);
  }

  std::unique_ptr<ModelFile> file_;
  std::vector<int32_t> ids_;      // [windows, length]
  std::vector<uint8_t> experts_;  // [windows, length]
  std::vector<int32_t> top_;      // [windows, length - 1] likeliest next token
  std::vector<float> logprobs_;   // [windows, length - 1] of the next token
};

TEST_F(ReadMeReal, EveryTokensExpert) {
  ModelRunner runner(*file_, **CpuKernels(), {.max_rows = kLength});
  for (const size_t chunk : {kLength, size_t{97}, size_t{1}}) {
    size_t wrong = 0;
    for (size_t w = 0; w < kWindows; ++w) {
      runner.Forget(0);
      for (size_t done = 0; done < kLength; done += chunk) {
        const auto ids = Window(w).subspan(done, chunk);
        const std::vector<int32_t> got = runner.Route({{0, ids}});
        for (size_t i = 0; i < got.size(); ++i) {
          wrong += got[i] != experts_[w * kLength + done + i] ? 1 : 0;
        }
      }
    }
    EXPECT_EQ(wrong, 0u) << "chunks of " << chunk;
  }
}

// Down projections are in Q5_1, made anew from Q4_1, which costs something: see DownType.
TEST_F(ReadMeReal, PerplexityAndLikeliestTokens) {
  for (const ExpertStorage storage : {ExpertStorage::kTied, ExpertStorage::kCopies}) {
    ModelRunner runner(*file_, **CpuKernels(), {.max_rows = kLength, .expert_storage = storage});
    double sum = 0, golden_sum = 0;
    size_t agreed = 0;
    for (size_t w = 0; w < kRoutedWindows; ++w) {
      const std::vector<float> logits = runner.Run(0, Window(w), kLength);
      const size_t vocab = logits.size() / kLength;
      for (size_t i = 0; i + 1 < kLength; ++i) {
        const float* row = &logits[i * vocab];
        const float* best = std::max_element(row, row + vocab);
        double total = 0;
        // What is left out is less than 1e-8 of the sum.
        for (size_t v = 0; v < vocab; ++v) {
          if (row[v] > *best - 30) total += std::exp(row[v] - *best);
        }
        const size_t golden = w * (kLength - 1) + i;
        sum += row[Window(w)[i + 1]] - *best - std::log(total);
        golden_sum += logprobs_[golden];
        agreed += best - row == top_[golden] ? 1 : 0;
      }
    }
    const double count = kRoutedWindows * (kLength - 1);
    const double perplexity = std::exp(-sum / count), golden = std::exp(-golden_sum / count);
    EXPECT_NEAR(perplexity / golden, 1.0, 0.06);
    EXPECT_GE(static_cast<double>(agreed) / count, 0.85);
    printf("%s: perplexity %.2f (reference %.2f), likeliest token the same at %.1f %%\n",
           storage == ExpertStorage::kTied ? "tied" : "copies", perplexity, golden,
           100 * static_cast<double>(agreed) / count);
  }
}

}  // namespace
}  // namespace pregate
