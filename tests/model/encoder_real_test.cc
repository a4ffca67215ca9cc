// all-MiniLM-L6-v2 on a thousand texts against transformers in float32: the cosine of every text,
// with the arithmetic that is served by default, and its tokens.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "engine/model/encoder.h"
#include "engine/model/model_file.h"
#include "tests/model/random_model.h"
#include "tests/sample_models.h"

namespace pregate {
namespace {

constexpr size_t kTexts = 1000;
constexpr size_t kMaxTokens = 256;
constexpr size_t kWidth = 384;
constexpr double kLeastCosine = 0.9999;

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// As make_text in tests/tools/make_encoder_goldens.py.
std::string TextOf(size_t number, const std::vector<std::string>& words) {
  const std::string name = "text " + std::to_string(number);
  const double first = (double{RandomElement(name, 0)} + 1) / 2;
  const auto count = 1 + static_cast<uint64_t>(160 * first * first);
  std::string text;
  for (uint64_t i = 1; i <= count; ++i) {
    const double draw = (double{RandomElement(name, i)} + 1) / 2;
    if (i > 1) text += ' ';
    text += words[static_cast<size_t>(draw * static_cast<double>(words.size()))];
  }
  return text;
}

std::vector<std::string> Words() {
  const std::string all = ReadFile("tests/testdata/parity/encoder_words.txt");
  std::vector<std::string> words;
  for (size_t start = 0; start < all.size();) {
    const size_t end = all.find('\n', start);
    words.push_back(all.substr(start, end - start));
    start = end + 1;
  }
  return words;
}

uint16_t Fold(const std::vector<int32_t>& ids) {
  uint64_t value = 0xCBF29CE484222325u;
  for (const int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      value = (value ^ (static_cast<uint32_t>(id) >> shift & 0xFF)) * 0x100000001B3u;
    }
  }
  value ^= value >> 32;
  return static_cast<uint16_t>(value ^ value >> 16);
}

class MiniLm : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = SampleModelPath("all-MiniLM-L6-v2");
    if (path.empty()) GTEST_SKIP() << "deploy/fetch_model.sh minilm has not been run";
    auto file = ModelFile::Open(path);
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
    golden_ = ReadFile("tests/testdata/parity/all-MiniLM-L6-v2.bin");
    ASSERT_EQ(golden_.size(), kTexts * (4 + 2 * kWidth));
    auto tokenizer = Tokenizer::Create(file_->tokenizer());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    const std::vector<std::string> words = Words();
    for (size_t i = 0; i < kTexts; ++i) {
      std::vector<int32_t> ids = tokenizer_->Encode(TextOf(i, words), {});
      if (ids.size() > kMaxTokens) {  // as transformers cuts: the last token stays
        ids[kMaxTokens - 1] = ids.back();
        ids.resize(kMaxTokens);
      }
      texts_.push_back(std::move(ids));
    }
  }

  float Golden(size_t text, size_t i) const {
    uint16_t half;
    std::memcpy(&half, &golden_[4 * kTexts + 2 * (text * kWidth + i)], sizeof(half));
    return HalfToFloat(half);
  }

  // The cosine of the vector of every text, or every `step`th, and the golden one, in batches of
  // many lengths.
  std::vector<double> Cosines(Encoder::Precision precision, size_t step = 1) {
    const std::unique_ptr<Device> device = MakeCpuDevice(0);
    const auto encoder = Encoder::Create(
        *file_, device.get(), *CpuKernels(),
        {.max_rows = 2048, .max_texts = 64, .precision = precision, .progress = nullptr});
    EXPECT_TRUE(encoder.ok()) << encoder.status();
    std::vector<double> cosines;
    for (size_t begin = 0; begin < kTexts;) {
      EncoderBatch batch;
      size_t end = begin;
      for (; end < kTexts && batch.texts() < 64 &&
             batch.rows() + static_cast<int32_t>(texts_[end].size()) <= 2048;
           end += step) {
        batch.Add(texts_[end], 0, file_->config().encoder.pooling);
      }
      const Tensor vectors = (*encoder)->Forward(batch);
      for (int64_t row = 0; begin < end; begin += step, ++row) {
        const float* got = vectors.Row<float>(row);
        double dot = 0, mine = 0, theirs = 0;
        for (size_t i = 0; i < kWidth; ++i) {
          const double want = Golden(begin, i);
          dot += got[i] * want;
          mine += double{got[i]} * got[i];
          theirs += want * want;
        }
        cosines.push_back(dot / std::sqrt(mine * theirs));
      }
    }
    return cosines;
  }

  static void Report(const char* name, std::vector<double> cosines) {
    std::sort(cosines.begin(), cosines.end());
    printf("%-8s cosine of %zu texts: least %.7f, 1 %% below %.7f, median %.8f\n", name,
           cosines.size(), cosines[0], cosines[cosines.size() / 100], cosines[cosines.size() / 2]);
  }

  std::unique_ptr<ModelFile> file_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::string golden_;
  std::vector<std::vector<int32_t>> texts_;
};

TEST_F(MiniLm, SaysWhatItIs) {
  const EncoderConfig& encoder = file_->config().encoder;
  EXPECT_EQ(encoder.pooling, Pooling::kMean);
  EXPECT_EQ(encoder.max_length, 256);
  EXPECT_EQ(file_->config().context_length, 512);
  EXPECT_FALSE(encoder.scores);
}

TEST_F(MiniLm, TokensOfEveryText) {
  size_t longest = 0;
  for (size_t i = 0; i < kTexts; ++i) {
    uint16_t count, fold;
    std::memcpy(&count, &golden_[4 * i], sizeof(count));
    std::memcpy(&fold, &golden_[4 * i + 2], sizeof(fold));
    ASSERT_EQ(texts_[i].size(), count) << "text " << i;
    ASSERT_EQ(Fold(texts_[i]), fold) << "text " << i;
    longest = std::max(longest, texts_[i].size());
  }
  EXPECT_EQ(longest, kMaxTokens);
}

TEST_F(MiniLm, FloatsAreTransformers) {
  const std::vector<double> cosines = Cosines(Encoder::Precision::kFile, 10);
  Report("float32", cosines);
  for (const double cosine : cosines) EXPECT_GE(cosine, 1 - 2e-7);
}

TEST_F(MiniLm, WhatIsServedByDefaultKeepsTheCosineOfEveryText) {
  const std::vector<double> cosines = Cosines(Encoder::Options().precision);
  Report("default", cosines);
  ASSERT_EQ(cosines.size(), kTexts);
  for (size_t i = 0; i < kTexts; ++i) ASSERT_GE(cosines[i], kLeastCosine) << "text " << i;
}

// Not served by default: what it costs.
TEST_F(MiniLm, BytesAreNear) {
  const std::vector<double> cosines = Cosines(Encoder::Precision::kInt8, 10);
  Report("int8", cosines);
  for (const double cosine : cosines) EXPECT_GE(cosine, 0.99);
}

}  // namespace
}  // namespace pregate
