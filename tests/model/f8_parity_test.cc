// Models whose matrices are 8-bit floats with scales, in each way in which Hugging Face's files
// have them, against the same numbers as floats on the reference table.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/model/model_file.h"
#include "tests/kernels/table_test.h"
#include "tests/model/gguf_writer.h"
#include "tests/model/model_runner.h"
#include "tests/model/random_model.h"

namespace pregate {
namespace {

using nlohmann::json;

// Blocks of 128 end inside the matrices.
constexpr int64_t kHidden = 160, kWidth = 288, kVocab = 96, kLayers = 2, kExperts = 3;

enum class Scales { kTensor, kScalar, kRow, kBlock };

json Config(bool mixture) {
  json config = {{"model_type", "llama"},
                 {"hidden_size", kHidden},
                 {"intermediate_size", kWidth},
                 {"vocab_size", kVocab},
                 {"num_attention_heads", 3},
                 {"num_key_value_heads", 1},
                 {"head_dim", 64},
                 {"num_hidden_layers", kLayers},
                 {"rms_norm_eps", 1e-5},
                 {"rope_theta", 10000.0},
                 {"max_position_embeddings", 128},
                 {"hidden_act", "silu"},
                 {"tie_word_embeddings", false}};
  if (mixture) {
    config["model_type"] = "mixtral";
    config["num_local_experts"] = kExperts;
    config["num_experts_per_tok"] = 2;
  }
  return config;
}

struct Shape {
  std::string name;
  int64_t rows;  // 0: a vector
  int64_t cols;
};
std::vector<Shape> Tensors(bool mixture) {
  std::vector<Shape> tensors = {{"model.embed_tokens", kVocab, kHidden},
                                {"model.norm", 0, kHidden},
                                {"lm_head", kVocab, kHidden}};
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    const auto add = [&](const std::string& name, int64_t rows, int64_t cols) {
      tensors.push_back({prefix + name, rows, cols});
    };
    add("input_layernorm", 0, kHidden);
    add("post_attention_layernorm", 0, kHidden);
    add("self_attn.q_proj", 192, kHidden);
    add("self_attn.k_proj", 64, kHidden);
    add("self_attn.v_proj", 64, kHidden);
    add("self_attn.o_proj", kHidden, 192);
    if (mixture) add("block_sparse_moe.gate", kExperts, kHidden);
    for (int64_t e = 0; e < (mixture ? kExperts : 1); ++e) {
      const std::string mlp = mixture ? absl::StrCat("block_sparse_moe.experts.", e, ".") : "mlp.";
      add(mlp + (mixture ? "w1" : "gate_proj"), kWidth, kHidden);
      add(mlp + (mixture ? "w3" : "up_proj"), kWidth, kHidden);
      add(mlp + (mixture ? "w2" : "down_proj"), kHidden, kWidth);
    }
  }
  return tensors;
}

// A model folder, gone with this.
class Folder {
 public:
  Folder(const std::string& name, json config)
      : path_(std::filesystem::path(testing::TempDir()) / ("f8_" + name)),
        config_(std::move(config)) {}
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  void Add(const std::string& name, const char* type, std::vector<int64_t> shape,
           const std::string& bytes) {
    header_[name] = {{"dtype", type},
                     {"shape", std::move(shape)},
                     {"data_offsets", {data_.size(), data_.size() + bytes.size()}}};
    data_ += bytes;
  }
  void AddFloats(const std::string& name, std::vector<int64_t> shape,
                 const std::vector<float>& values) {
    const std::vector<uint8_t> bytes = EncodeTensor(values, DType::kF32);
    Add(name, "F32", std::move(shape), {bytes.begin(), bytes.end()});
  }

  absl::StatusOr<std::unique_ptr<ModelFile>> Open() const {
    std::filesystem::create_directories(path_);
    std::ofstream(path_ / "config.json") << config_.dump();
    std::ofstream(path_ / "tokenizer.json")
        << R"({"added_tokens": [], "normalizer": null, "post_processor": null,
              "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
              "decoder": {"type": "ByteLevel"},
              "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})";
    const std::string text = header_.dump();
    std::ofstream(path_ / "model.safetensors", std::ios::binary)
        << Bytes<uint64_t>(text.size()) << text << data_;
    return ModelFile::Open(path_.string());
  }

 private:
  std::filesystem::path path_;
  json config_;
  json header_;
  std::string data_;
};

// A matrix as bytes with scales, and the floats that both make.
struct F8Matrix {
  std::string bytes;
  std::vector<float> scales;
  std::vector<int64_t> scales_shape;
  std::vector<float> values;
};
F8Matrix Round(const std::vector<float>& x, int64_t rows, int64_t cols, Scales kind) {
  const auto blocks = [](int64_t count) { return (count + 127) / 128; };
  F8Matrix m;
  m.scales_shape = kind == Scales::kBlock    ? std::vector<int64_t>{blocks(rows), blocks(cols)}
                   : kind == Scales::kRow    ? std::vector<int64_t>{rows, 1}
                   : kind == Scales::kTensor ? std::vector<int64_t>{1}
                                             : std::vector<int64_t>();
  const auto index = [&](int64_t r, int64_t c) {
    const int64_t at = kind == Scales::kBlock ? r / 128 * blocks(cols) + c / 128
                       : kind == Scales::kRow ? r
                                              : 0;
    return static_cast<size_t>(at);
  };
  m.scales.resize(index(rows - 1, cols - 1) + 1);
  const auto each = [&](auto visit) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) visit(m.scales[index(r, c)], x[size_t(r * cols + c)]);
    }
  };
  each([](float& scale, float value) { scale = std::max(scale, std::fabs(value) / 448); });
  each([&](float scale, float value) {
    const uint8_t byte = FloatToE4M3(value / scale);
    m.bytes.push_back(static_cast<char>(byte));
    m.values.push_back(E4M3ToFloat(byte) * scale);
  });
  return m;
}

// Gates, norms, embeddings and the head stay floats, as in the usual files.
bool IsRounded(const Shape& tensor) {
  return tensor.rows > 0 && absl::StartsWith(tensor.name, "model.layers") &&
         !absl::EndsWith(tensor.name, "moe.gate");
}

void Fill(Folder& rounded, Folder& floats, bool mixture, Scales kind) {
  for (const Shape& tensor : Tensors(mixture)) {
    const std::string name = tensor.name + ".weight";
    const int64_t rows = std::max<int64_t>(tensor.rows, 1);
    const std::vector<float> values = RandomTensor(name, rows, tensor.cols);
    const std::vector<int64_t> shape = tensor.rows == 0
                                           ? std::vector<int64_t>{tensor.cols}
                                           : std::vector<int64_t>{tensor.rows, tensor.cols};
    if (!IsRounded(tensor)) {
      rounded.AddFloats(name, shape, values);
      floats.AddFloats(name, shape, values);
      continue;
    }
    const F8Matrix m = Round(values, rows, tensor.cols, kind);
    rounded.Add(name, "F8_E4M3", shape, m.bytes);
    rounded.AddFloats(name + (kind == Scales::kBlock ? "_scale_inv" : "_scale"), m.scales_shape,
                      m.scales);
    if (kind == Scales::kTensor) rounded.AddFloats(tensor.name + ".input_scale", {1}, {0.5f});
    floats.AddFloats(name, shape, m.values);
  }
}

json Quantization(Scales kind) {
  if (kind == Scales::kBlock) {
    return {{"quant_method", "fp8"}, {"fmt", "e4m3"}, {"weight_block_size", {128, 128}}};
  }
  if (kind == Scales::kScalar) return {{"quant_method", "fp8"}, {"activation_scheme", "static"}};
  const char* strategy = kind == Scales::kRow ? "channel" : "tensor";
  return {{"quant_method", "compressed-tensors"},
          {"format", "float-quantized"},
          {"config_groups",
           {{"group_0",
             {{"targets", {"Linear"}},
              {"weights", {{"num_bits", 8}, {"type", "float"}, {"strategy", strategy}}}}}}}};
}

struct Case {
  const char* name;
  bool mixture;
  Scales kind;
};
class F8Parity : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Files, F8Parity,
                         testing::Values(Case{"tensor", false, Scales::kTensor},
                                         Case{"scalar", false, Scales::kScalar},
                                         Case{"row", false, Scales::kRow},
                                         Case{"block", false, Scales::kBlock},
                                         Case{"mixture", true, Scales::kBlock}),
                         [](const auto& info) { return info.param.name; });

// The largest difference of a logit, by the largest logit.
float LargestDifference(const std::vector<float>& got, const std::vector<float>& want) {
  float difference = 0, largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference = std::max(difference, std::fabs(got[i] - want[i]));
    largest = std::max(largest, want[i]);
  }
  return difference / largest;
}

TEST_P(F8Parity, LogitsAreThoseOfTheSameNumbersAsFloats) {
  PREGATE_SKIP_WITHOUT_TABLES();
  const auto& [name, mixture, kind] = GetParam();
  json config = Config(mixture);
  Folder floats(absl::StrCat(name, "_floats"), config);
  config["quantization_config"] = Quantization(kind);
  Folder rounded(name, config);
  Fill(rounded, floats, mixture, kind);
  const auto want_file = floats.Open(), got_file = rounded.Open();
  ASSERT_TRUE(want_file.ok()) << want_file.status();
  ASSERT_TRUE(got_file.ok()) << got_file.status();

  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 40; ++i) ids.push_back((7 * i * i + 3 * i + 1) % kVocab);
  ModelRunner reference(**want_file, ReferenceKernels(),
                        {.activations = DType::kF32, .max_tokens = 64});
  const std::vector<float> want = reference.Run(0, ids, 40);
  const std::vector<int32_t> greedy = reference.Greedy(ids, 8);
  for (const TestTable& table : RunnableTables()) {
    SCOPED_TRACE(table.name);
    ModelRunner runner(**got_file, *table.kernels, table.make_device(2),
                       {.activations = DType::kF32, .max_tokens = 64});
    const float difference = LargestDifference(runner.Run(0, ids, table.slow ? 37 : 7), want);
    EXPECT_LE(difference, 1e-4f);
    printf("%-8s %-11s largest difference of a logit %.1e\n", name, table.name.c_str(), difference);
    if (!table.slow) {
      EXPECT_EQ(runner.Greedy(ids, 8), greedy);
      continue;
    }
    // On tensor cores rows are rounded to halves, to 11 bits.
    ModelRunner halves(**got_file, *table.kernels, table.make_device(2), {.max_tokens = 64});
    EXPECT_LE(LargestDifference(halves.Run(0, ids, 37), want), 4e-3f);
  }
}

// --- What does not hold together. ---

absl::Status Refused(const std::string& matrix_type, const std::vector<int64_t>& scales_shape,
                     const std::string& which = "model.layers.0.mlp.up_proj") {
  json config = Config(false);
  config["quantization_config"] = {{"quant_method", "fp8"}};
  Folder folder("refused", config);
  for (const Shape& tensor : Tensors(false)) {
    const int64_t rows = std::max<int64_t>(tensor.rows, 1);
    const std::vector<int64_t> shape = tensor.rows == 0
                                           ? std::vector<int64_t>{tensor.cols}
                                           : std::vector<int64_t>{tensor.rows, tensor.cols};
    const std::vector<float> values(size_t(rows * tensor.cols), 0.5f);
    if (tensor.name == which && matrix_type != "F32") {
      folder.Add(tensor.name + ".weight", matrix_type.c_str(), shape,
                 std::string(values.size(), '\x38'));
    } else {
      folder.AddFloats(tensor.name + ".weight", shape, values);
    }
  }
  if (!scales_shape.empty()) {
    int64_t count = 1;
    for (const int64_t dim : scales_shape) count *= dim;
    folder.AddFloats(which + ".weight_scale", scales_shape,
                     std::vector<float>(static_cast<size_t>(count), 1.0f));
  }
  return folder.Open().status();
}

void ExpectSays(const absl::Status& status, absl::StatusCode code, const std::string& text) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_TRUE(absl::StrContains(std::string(status.message()), text)) << status;
}

TEST(F8Files, ElementsAndScalesBelongTogether) {
  constexpr auto kMissing = absl::StatusCode::kFailedPrecondition;
  constexpr auto kNotServed = absl::StatusCode::kUnimplemented;
  EXPECT_TRUE(Refused("F8_E4M3", {1}).ok());
  EXPECT_TRUE(Refused("F8_E4M3", {kWidth}).ok());
  EXPECT_TRUE(Refused("F8_E4M3", {3, 2}).ok());
  ExpectSays(Refused("F8_E4M3", {}), kMissing, "ffn_up.weight_scale: must be given");
  ExpectSays(Refused("F8_E4M3", {2}), kMissing, "must be one number, [288, 1], or one for each");
  ExpectSays(Refused("F8_E4M3", {2, 3}), kMissing, "ffn_up.weight_scale");
  ExpectSays(Refused("F32", {1}), kMissing, "must have 0 scales");
  ExpectSays(Refused("F8_E5M2", {1}), kNotServed, "type must be F32, F16, BF16 or F8_E4M3");
  ExpectSays(Refused("F8_E4M3", {1}, "model.norm"), kNotServed, "must be a matrix");
}

}  // namespace
}  // namespace pregate
