// Vectors and scores of tiny encoders of every family against transformers, from both formats and
// on every kernel table.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "engine/model/encoder.h"
#include "engine/model/model_file.h"
#include "tests/model/tiny_case.h"

namespace pregate {
namespace {

using nlohmann::json;

// Of the largest element of a vector. Seen: 8e-7 for floats, 6e-4 with matrices of 13 bits.
constexpr double kTolerance = 1e-4;
constexpr double kQ13Tolerance = 3e-3;

struct Goldens {
  json root;
  std::vector<float> values;

  const json& Case(size_t index) const { return root["cases"][index]; }
  // Numbers that a text of the case becomes.
  static size_t Width(const json& test_case) {
    return test_case["pooling"].is_null() ? 1 : test_case["config"]["hidden_size"].get<size_t>();
  }
  const float* Of(size_t index) const {
    const float* at = values.data();
    for (size_t i = 0; i < index; ++i) at += root["texts"].size() * Width(Case(i));
    return at;
  }
};

const Goldens& TinyEncoders() {
  static const auto* const goldens = [] {
    auto* read = new Goldens;
    read->root = json::parse(std::ifstream("tests/testdata/parity/encoders.json"));
    std::ifstream in("tests/testdata/parity/encoders.bin", std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    read->values.resize(bytes.size() / sizeof(float));
    std::copy_n(bytes.data(), bytes.size(), reinterpret_cast<char*>(read->values.data()));
    return read;
  }();
  return *goldens;
}

struct Case {
  size_t index;
  TinyModel::Format format;
};

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (size_t i = 0; i < TinyEncoders().root["cases"].size(); ++i) {
    cases.push_back({i, TinyModel::Format::kSafetensors});
    // A GGUF file cannot say another activation.
    if (TinyEncoders().Case(i)["config"]["hidden_act"] != "gelu") continue;
    cases.push_back({i, TinyModel::Format::kGguf});
  }
  return cases;
}

class EncoderParity : public testing::TestWithParam<Case> {
 protected:
  EncoderParity() : model_(test_case(), GetParam().format) {}

  void SetUp() override {
    auto file = ModelFile::Open(model_.path());
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
    ASSERT_TRUE(file_->config().encoder.present);
    EXPECT_EQ(file_->config().context_length,
              file_->config().encoder.num_positions - file_->config().encoder.first_position);
  }

  const json& test_case() const { return TinyEncoders().Case(GetParam().index); }

  std::unique_ptr<Encoder> Make(const Kernels& kernels, Encoder::Precision precision) {
    auto encoder = Encoder::Create(
        *file_, device_.get(), &kernels,
        {.max_rows = 160, .max_texts = 5, .precision = precision, .progress = nullptr});
    EXPECT_TRUE(encoder.ok()) << encoder.status();
    return *std::move(encoder);
  }

  // Texts [first, first + count).
  EncoderBatch Batch(size_t first, size_t count) const {
    EncoderBatch batch;
    for (size_t i = first; i < first + count; ++i) {
      batch.Add(TinyEncoders().root["texts"][i], TinyEncoders().root["second_begin"][i],
                file_->config().encoder.pooling);
    }
    return batch;
  }

  TinyModel model_;
  std::unique_ptr<ModelFile> file_;
  const std::unique_ptr<Device> device_ = MakeCpuDevice(2);
};

std::vector<CpuTable> RunnableTables() {
  std::vector<CpuTable> tables = AllCpuTables();
  std::erase_if(tables, [](const CpuTable& table) { return !table.runnable; });
  tables.push_back({&ReferenceKernels(), true});
  return tables;
}

TEST_P(EncoderParity, VectorsAndScoresOfEveryTable) {
  const size_t texts = TinyEncoders().root["texts"].size(), width = Goldens::Width(test_case());
  for (const CpuTable& table : RunnableTables()) {
    for (const auto precision : {Encoder::Precision::kFile, Encoder::Precision::kQ13}) {
      const auto encoder = Make(*table.kernels, precision);
      const Tensor got = encoder->Forward(Batch(0, texts));
      ASSERT_EQ(got.rows, static_cast<int64_t>(texts));
      ASSERT_EQ(got.cols, static_cast<int64_t>(width));
      const float* want = TinyEncoders().Of(GetParam().index);
      double worst = 0;
      for (size_t t = 0; t < texts; ++t, want += width) {
        double largest = width == 1 ? 1 : 0;  // a score is of the size of 1
        for (size_t i = 0; i < width; ++i) largest = std::max(largest, std::fabs(double{want[i]}));
        for (size_t i = 0; i < width; ++i) {
          const double off =
              std::fabs(double{got.Row<float>(static_cast<int64_t>(t))[i]} - want[i]);
          worst = std::max(worst, off / largest);
        }
      }
      const bool exact = precision == Encoder::Precision::kFile;
      EXPECT_LE(worst, exact ? kTolerance : kQ13Tolerance) << table.kernels->name;
      printf("%-18s %-10s %-5s largest difference %.1e\n",
             test_case()["name"].get<std::string>().c_str(),
             std::string(table.kernels->name).c_str(), exact ? "file" : "q13", worst);
    }
  }
}

TEST_P(EncoderParity, TextsDoNotDependOnTheirBatch) {
  const size_t texts = TinyEncoders().root["texts"].size(), width = Goldens::Width(test_case());
  for (const CpuTable& table : RunnableTables()) {
    for (const auto precision :
         {Encoder::Precision::kFile, Encoder::Precision::kQ13, Encoder::Precision::kInt8}) {
      const auto encoder = Make(*table.kernels, precision);
      const Tensor together = encoder->Forward(Batch(0, texts));
      std::vector<float> all;
      for (int64_t t = 0; t < together.rows; ++t) {
        all.insert(all.end(), together.Row<float>(t), together.Row<float>(t) + width);
      }
      for (size_t t = 0; t < texts; ++t) {
        const Tensor alone = encoder->Forward(Batch(t, 1));
        ASSERT_TRUE(std::equal(alone.Row<float>(0), alone.Row<float>(0) + width, &all[t * width]))
            << table.kernels->name << ", text " << t;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, EncoderParity, testing::ValuesIn(AllCases()),
                         [](const testing::TestParamInfo<Case>& info) {
                           const bool gguf = info.param.format == TinyModel::Format::kGguf;
                           return TinyEncoders().Case(info.param.index)["name"].get<std::string>() +
                                  (gguf ? "_gguf" : "");
                         });

// What a request asks for goes before what the file says.
TEST(EncoderTest, PoolingOfEachTextIsItsOwn) {
  const TinyModel model(TinyEncoders().Case(0), TinyModel::Format::kSafetensors);
  const auto file = ModelFile::Open(model.path());
  ASSERT_TRUE(file.ok()) << file.status();
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  const auto encoder = Encoder::Create(**file, device.get(), *CpuKernels(),
                                       {.max_rows = 64, .max_texts = 4, .progress = nullptr});
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  EncoderBatch batch;
  const std::vector<int32_t> text = {5, 9, 80};
  for (const Pooling how : {Pooling::kCls, Pooling::kMean, Pooling::kLast}) batch.Add(text, 0, how);
  batch.Add({5}, 0, Pooling::kMean);
  const Tensor out = (*encoder)->Forward(batch);
  const auto differs = [&](int64_t a, int64_t b) {
    return !std::equal(out.Row<float>(a), out.Row<float>(a) + out.cols, out.Row<float>(b));
  };
  EXPECT_TRUE(differs(0, 1) && differs(1, 2) && differs(0, 2));
  // Of one row all are the same, up to nothing.
  EncoderBatch single;
  for (const Pooling how : {Pooling::kCls, Pooling::kMean, Pooling::kLast}) single.Add({5}, 0, how);
  const Tensor same = (*encoder)->Forward(single);
  for (int64_t i = 0; i < same.cols; ++i) {
    EXPECT_EQ(same.Row<float>(0)[i], same.Row<float>(1)[i]);
    EXPECT_EQ(same.Row<float>(0)[i], same.Row<float>(2)[i]);
  }
}

}  // namespace
}  // namespace pregate
