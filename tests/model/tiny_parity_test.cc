// Tiny random models, one for each thing that the families differ in, against transformers.
// tests/tools/make_parity_goldens.py made the reference numbers; both sides know the weights from
// the formula of RandomElement.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/model/model_file.h"
#include "kernels/kernels.h"
#include "tests/model/gguf_writer.h"
#include "tests/model/model_runner.h"
#include "tests/model/random_model.h"

namespace pregate {
namespace {

using nlohmann::json;

constexpr char kData[] = "tests/testdata/parity/";
// Largest difference of a logit (their standard deviation is about 1): the rounding of float sums
// taken in another order, 3 or 4 layers deep.
constexpr float kTolerance = 2e-4f;

DType ParseDType(const std::string& name) {
  if (name == "f16") return DType::kF16;
  if (name == "bf16") return DType::kBF16;
  EXPECT_EQ(name, "f32");
  return DType::kF32;
}

const char* SafetensorsName(DType dtype) {
  return dtype == DType::kF16 ? "F16" : dtype == DType::kBF16 ? "BF16" : "F32";
}

// A Hugging Face folder with the weights of one case.
class CaseFolder {
 public:
  explicit CaseFolder(const json& test_case)
      : path_(std::filesystem::path(testing::TempDir()) /
              ("tiny_" + test_case["name"].get<std::string>())) {
    std::filesystem::create_directories(path_);
    Write("config.json", test_case["config"].dump());
    Write("tokenizer.json",
          R"({"added_tokens": [], "normalizer": null, "post_processor": null,
              "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
              "decoder": {"type": "ByteLevel"},
              "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})");
    WriteTensors(test_case["tensors"], ParseDType(test_case["dtype"]));
  }
  ~CaseFolder() { std::filesystem::remove_all(path_); }

  std::string path() const { return path_.string(); }

 private:
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }

  void WriteTensors(const json& tensors, DType dtype) {
    json header;
    std::string data;
    for (const json& tensor : tensors) {
      const std::string name = tensor[0];
      const std::vector<int64_t> shape = tensor[1];
      const int64_t rows = shape.size() == 1 ? 1 : shape[0];
      const std::vector<uint8_t> bytes =
          EncodeTensor(RandomTensor(name, rows, shape.back()), dtype);
      const size_t begin = data.size();
      data.append(bytes.begin(), bytes.end());
      header[name] = {{"dtype", SafetensorsName(dtype)},
                      {"shape", shape},
                      {"data_offsets", {begin, data.size()}}};
    }
    const std::string text = header.dump();
    Write("model.safetensors", Bytes<uint64_t>(text.size()) + text + data);
  }

  std::filesystem::path path_;
};

struct Goldens {
  json cases;
  std::vector<int32_t> ids;
  size_t stride = 0;          // logits are kept for positions stride - 1, 2 * stride - 1, ...
  std::vector<float> logits;  // [cases][ids / stride][vocab]
};

Goldens ReadGoldens() {
  Goldens goldens;
  const json root = json::parse(std::ifstream(std::string(kData) + "tiny.json"));
  goldens.cases = root["cases"];
  goldens.ids = root["token_ids"].get<std::vector<int32_t>>();
  goldens.stride = root["stride"];
  std::ifstream in(std::string(kData) + "tiny.bin", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  goldens.logits.resize(bytes.size() / sizeof(float));
  std::copy_n(bytes.data(), bytes.size(), reinterpret_cast<char*>(goldens.logits.data()));
  return goldens;
}

class TinyParity : public testing::TestWithParam<int> {
 protected:
  static const Goldens& goldens() {
    static const Goldens goldens = ReadGoldens();
    return goldens;
  }
};

// The largest difference of a logit; the likeliest token must be the same everywhere.
float LargestDifference(const std::vector<float>& got, const float* want, size_t vocab,
                        size_t stride) {
  float largest = 0;
  for (size_t row = stride - 1; row < got.size() / vocab; row += stride, want += vocab) {
    const float* mine = &got[row * vocab];
    EXPECT_EQ(std::max_element(mine, mine + vocab) - mine,
              std::max_element(want, want + vocab) - want)
        << "position " << row;
    for (size_t i = 0; i < vocab; ++i) largest = std::max(largest, std::fabs(mine[i] - want[i]));
  }
  return largest;
}

TEST_P(TinyParity, LogitsAndGreedyAnswersOfEveryTable) {
  const json& test_case = goldens().cases[static_cast<size_t>(GetParam())];
  const CaseFolder folder(test_case);
  const auto file = ModelFile::Open(folder.path());
  ASSERT_TRUE(file.ok()) << file.status();
  const size_t vocab = test_case["config"]["vocab_size"];
  const size_t rows = goldens().ids.size() / goldens().stride;
  const float* want = &goldens().logits[static_cast<size_t>(GetParam()) * rows * vocab];
  const std::vector<int32_t> greedy = test_case["greedy"];

  std::vector<CpuTable> tables = AllCpuTables();
  tables.push_back({&ReferenceKernels(), true});
  for (const CpuTable& table : tables) {
    if (!table.runnable) continue;
    SCOPED_TRACE(std::string(table.kernels->name));
    ModelRunner runner(**file, *table.kernels, {.max_tokens = 128, .threads = 2});
    float difference = 0;
    for (const int32_t chunk : {1, 7, 64}) {
      difference = std::max(difference, LargestDifference(runner.Run(0, goldens().ids, chunk), want,
                                                          vocab, goldens().stride));
    }
    EXPECT_LE(difference, kTolerance);
    EXPECT_EQ(runner.Greedy(goldens().ids, static_cast<int32_t>(greedy.size())), greedy);
    printf("%-16s %-11s largest difference of a logit %.1e\n",
           test_case["name"].get<std::string>().c_str(), std::string(table.kernels->name).c_str(),
           difference);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Families, TinyParity, testing::Range(0, static_cast<int>(ReadGoldens().cases.size())),
    [](const testing::TestParamInfo<int>& info) {
      return ReadGoldens().cases[static_cast<size_t>(info.param)]["name"].get<std::string>();
    });

}  // namespace
}  // namespace pregate
