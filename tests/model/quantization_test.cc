// Matrices of floats that are quantised when they are loaded, against files that were quantised
// before.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "engine/model/read_me_overlay.h"
#include "tests/engine/read_me_overlay.h"
#include "tests/model/changed_model.h"
#include "tests/model/model_runner.h"
#include "tests/model/random_model.h"
#include "tests/model/read_me_folder.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

constexpr DType kTypes[] = {DType::kQ8_0, DType::kQ5_1, DType::kQ5_0, DType::kQ4_1, DType::kQ4_0};

const Kernels& CpuTable() {
  const auto kernels = CpuKernels();
  EXPECT_TRUE(kernels.ok());
  return **kernels;
}

std::vector<float> Logits(const ModelFile& file, std::optional<DType> quantization,
                          ExpertStorage storage = ExpertStorage::kAuto, int32_t ranks = 1) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 40; ++i) ids.push_back((7 * i * i + 3 * i + 1) % 256);
  ModelRunner runner(file, CpuTable(),
                     {.quantization = quantization,
                      .max_tokens = 64,
                      .threads = 2,
                      .expert_storage = storage,
                      .ranks = ranks});
  return runner.Run(0, ids, 16);
}

// The largest difference of a logit, by the largest logit.
double Difference(const std::vector<float>& got, const std::vector<float>& want) {
  double difference = 0, largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference = std::max<double>(difference, std::fabs(got[i] - want[i]));
    largest = std::max<double>(largest, std::fabs(want[i]));
  }
  return difference / largest;
}

std::vector<RandomModelSpec> Specs() {
  RandomModelSpec dense, tied, mixture;
  tied.tied_embeddings = true;
  tied.matrix_dtype = DType::kBF16;
  mixture.num_experts = 6;
  mixture.shared_ffn_size = 96;
  mixture.matrix_dtype = DType::kF16;
  return {dense, tied, mixture};
}

TEST(Quantization, AtLoadIsAsInTheFile) {
  for (const RandomModelSpec& spec : Specs()) {
    const std::unique_ptr<ModelFile> floats = MakeRandomModel(spec);
    const std::vector<float> unquantized = Logits(*floats, std::nullopt);
    double before = 0;
    for (const DType dtype : kTypes) {
      SCOPED_TRACE(GetDTypeInfo(dtype).name);
      const ChangedModel file(*floats, dtype);
      const std::vector<float> at_load = Logits(*floats, dtype);
      EXPECT_EQ(at_load, Logits(file, std::nullopt));
      EXPECT_EQ(at_load, Logits(file, dtype));  // what is of the type already stays
      const double lost = Difference(at_load, unquantized);
      EXPECT_GT(lost, dtype == DType::kQ8_0 ? 0 : before / 2);
      // (What a gate chooses may change with the weights before it.)
      EXPECT_LT(lost, dtype == DType::kQ8_0 && spec.num_experts == 0 ? 0.03 : 0.7);
      before = lost;
    }
  }
}

// By the formula of a file that the library's tests have always had.
TEST(Quantization, Q8IsAsFilesHaveIt) {
  RandomModelSpec spec;
  const std::unique_ptr<ModelFile> floats = MakeRandomModel(spec);
  spec.matrix_dtype = DType::kQ8_0;
  EXPECT_EQ(Logits(*floats, DType::kQ8_0), Logits(*MakeRandomModel(spec), std::nullopt));
}

TEST(Quantization, TakesTheMemoryOfTheType) {
  const std::unique_ptr<ModelFile> floats = MakeRandomModel({});
  const auto bytes = [&](std::optional<DType> quantization) {
    ModelRunner runner(*floats, CpuTable(), {.quantization = quantization, .threads = 1});
    return static_cast<double>(runner.transformer().weight_bytes());
  };
  EXPECT_NEAR(bytes(DType::kQ8_0) / bytes(std::nullopt), 34.0 / 128, 0.02);
  EXPECT_NEAR(bytes(DType::kQ4_0) / bytes(std::nullopt), 18.0 / 128, 0.02);
}

// Each rank quantises its own part: the blocks are those of the whole.
TEST(Quantization, OnRanks) {
  RandomModelSpec spec;
  spec.num_experts = 6;
  const std::unique_ptr<ModelFile> floats = MakeRandomModel(spec);
  const std::vector<float> alone = Logits(*floats, DType::kQ4_1);
  EXPECT_LE(Difference(Logits(*floats, DType::kQ4_1, ExpertStorage::kAuto, 2), alone), 1e-4);
}

// Experts that overlap, tied and as copies. A down projection's blocks run along neurons that are
// in another order than in the file.
TEST(Quantization, ReadMe) {
  const RandomModelSpec spec;
  ReadMeFolder folder("quantization");
  WriteReadMe(spec, folder);
  const auto file = LayReadMeOver(MakeRandomModel(spec), folder.Write());
  ASSERT_TRUE(file.ok()) << file.status();
  const std::vector<float> floats = Logits(**file, std::nullopt, ExpertStorage::kTied);
  for (const ExpertStorage storage : {ExpertStorage::kTied, ExpertStorage::kCopies}) {
    const double q8 = Difference(Logits(**file, DType::kQ8_0, storage), floats);
    const double q4 = Difference(Logits(**file, DType::kQ4_0, storage), floats);
    EXPECT_GT(q8, 0);
    EXPECT_LT(q8, 0.02);
    EXPECT_GT(q4, 2 * q8);
    EXPECT_LT(q4, 0.5);
  }
}

absl::Status StatusOf(const ModelFile& file, DType quantization) {
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  Transformer::Options options;
  options.quantization = quantization;
  return Transformer::Create(file, device.get(), &CpuTable(), options).status();
}

TEST(Quantization, WhatCannotBeIsNamed) {
  RandomModelSpec spec;
  spec.matrix_dtype = DType::kQ8_0;
  const std::unique_ptr<ModelFile> quantized = MakeRandomModel(spec);
  EXPECT_TRUE(StatusOf(*quantized, DType::kQ8_0).ok());
  const absl::Status again = StatusOf(*quantized, DType::kQ4_0);
  EXPECT_EQ(again.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(again.message()),
              AllOf(HasSubstr("quantization: must be none, or what the file is quantised to"),
                    HasSubstr("token_embd.weight of Q8_0")));
  spec.matrix_dtype = DType::kF32;
  spec.ffn_size = 112;
  const absl::Status uneven = StatusOf(*MakeRandomModel(spec), DType::kQ8_0);
  EXPECT_EQ(uneven.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(uneven.message()),
              HasSubstr("quantization: rows must be of whole blocks of 32 elements; "
                        "blk.0.ffn_down.weight has rows of 112"));
}

}  // namespace
}  // namespace pregate
