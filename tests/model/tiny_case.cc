#include "tests/model/tiny_case.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/model/hf_names.h"
#include "kernels/tensor.h"
#include "tests/model/gguf_writer.h"
#include "tests/model/random_model.h"

namespace pregate {
namespace {

using nlohmann::json;

DType ParseDType(const std::string& name) {
  if (name == "f16") return DType::kF16;
  if (name == "bf16") return DType::kBF16;
  EXPECT_EQ(name, "f32");
  return DType::kF32;
}

const char* SafetensorsName(DType dtype) {
  return dtype == DType::kF16 ? "F16" : dtype == DType::kBF16 ? "BF16" : "F32";
}

uint32_t GgmlType(DType dtype) { return dtype == DType::kF16 ? 1 : dtype == DType::kBF16 ? 30 : 0; }

struct Weight {
  std::string name;  // of Hugging Face
  std::vector<int64_t> shape;
  std::vector<float> values;
};

// Every tensor of a case by itself, experts one after the other.
std::vector<Weight> WeightsOf(const json& test_case) {
  std::vector<Weight> weights;
  for (const json& tensor : test_case["tensors"]) {
    const std::string name = tensor[0];
    std::vector<int64_t> shape = tensor[1];
    const bool experts = name.find('*') != std::string::npos;
    const int64_t count = experts ? shape[0] : 1;
    if (experts) shape.erase(shape.begin());
    const int64_t rows = shape.size() == 1 ? 1 : shape[0];
    for (int64_t e = 0; e < count; ++e) {
      const std::string one = absl::StrReplaceAll(name, {{"*", absl::StrCat(e)}});
      weights.push_back({one, shape, RandomTensor(absl::AsciiStrToLower(one), rows, shape.back())});
    }
  }
  return weights;
}

void WriteFile(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string Encoded(const std::vector<float>& values, DType dtype) {
  const std::vector<uint8_t> bytes = EncodeTensor(values, dtype);
  return {bytes.begin(), bytes.end()};
}

// What sentence-transformers writes for an encoder that gives vectors.
void WriteModules(const std::string& pooling, const std::filesystem::path& folder) {
  const json modules = {{{"idx", 0}, {"path", ""}, {"type", "sentence_transformers.Transformer"}},
                        {{"idx", 1}, {"path", "1_Pooling"}, {"type", "a.b.Pooling"}},
                        {{"idx", 2}, {"path", "2_Normalize"}, {"type", "a.b.Normalize"}}};
  WriteFile(folder / "modules.json", modules.dump());
  std::filesystem::create_directories(folder / "1_Pooling");
  const json flags = {{"pooling_mode_cls_token", pooling == "cls"},
                      {"pooling_mode_mean_tokens", pooling == "mean"},
                      {"pooling_mode_lasttoken", pooling == "lasttoken"},
                      {"pooling_mode_max_tokens", false}};
  WriteFile(folder / "1_Pooling" / "config.json", flags.dump());
}

void WriteFolder(const json& test_case, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  WriteFile(folder / "config.json", test_case["config"].dump());
  if (test_case.contains("pooling") && test_case["pooling"].is_string()) {
    WriteModules(test_case["pooling"], folder);
  }
  WriteFile(folder / "tokenizer.json",
            R"({"added_tokens": [], "normalizer": null, "post_processor": null,
              "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
              "decoder": {"type": "ByteLevel"},
              "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})");
  const DType dtype = ParseDType(test_case["dtype"]);
  json header;
  std::string data;
  for (const Weight& weight : WeightsOf(test_case)) {
    const size_t begin = data.size();
    data += Encoded(weight.values, dtype);
    header[weight.name] = {{"dtype", SafetensorsName(dtype)},
                           {"shape", weight.shape},
                           {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = header.dump();
  WriteFile(folder / "model.safetensors", Bytes<uint64_t>(text.size()) + text + data);
}

struct Key {
  const char* theirs;
  const char* ours;
};
constexpr Key kSizes[] = {
    {"num_hidden_layers", "block_count"},
    {"hidden_size", "embedding_length"},
    {"intermediate_size", "feed_forward_length"},
    {"max_position_embeddings", "context_length"},
    {"num_attention_heads", "attention.head_count"},
    {"num_key_value_heads", "attention.head_count_kv"},
    {"head_dim", "attention.key_length"},
    {"num_local_experts", "expert_count"},
    {"num_experts", "expert_count"},
    {"num_experts_per_tok", "expert_used_count"},
    {"moe_intermediate_size", "expert_feed_forward_length"},
    {"shared_expert_intermediate_size", "expert_shared_feed_forward_length"},
};

// As llama.cpp's converter writes encoders.
void AddEncoderMetadata(const json& test_case, GgufWriter& writer) {
  const json& config = test_case["config"];
  writer.SetString("general.architecture", "bert");
  for (const Key& key : kSizes) {
    if (config.contains(key.theirs))
      writer.SetU32(absl::StrCat("bert.", key.ours), config[key.theirs]);
  }
  writer.SetF32("bert.attention.layer_norm_epsilon", config["layer_norm_eps"]);
  writer.SetBool("bert.attention.causal", false);
  const json& pooling = test_case["pooling"];
  writer.SetU32("bert.pooling_type", pooling == "mean"        ? 1
                                     : pooling == "cls"       ? 2
                                     : pooling == "lasttoken" ? 3
                                                              : 4);
  std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"};
  std::vector<int32_t> types = {3, 2, 3, 3};
  for (int i = 4; i < config["vocab_size"]; ++i) {
    tokens.push_back(absl::StrCat("\xE2\x96\x81t", i));
    types.push_back(TokenizerSpec::kNormal);
  }
  writer.SetString("tokenizer.ggml.model", "bert");
  writer.SetStrings("tokenizer.ggml.tokens", tokens);
  writer.SetInts("tokenizer.ggml.token_type", types);
}

std::string GgufArchitecture(const std::string& model_type) {
  if (model_type.ends_with("bert") || model_type.ends_with("roberta")) return "bert";
  if (model_type == "mixtral" || model_type == "aquilamoe") return "llama";
  return absl::StrReplaceAll(model_type, {{"_", ""}});
}

void AddGgufMetadata(const json& config, const std::string& architecture, GgufWriter& writer) {
  const std::string prefix = architecture + ".";
  writer.SetString("general.architecture", architecture);
  for (const Key& key : kSizes) {
    if (config.contains(key.theirs)) writer.SetU32(prefix + key.ours, config[key.theirs]);
  }
  writer.SetF32(prefix + "attention.layer_norm_rms_epsilon", config["rms_norm_eps"]);
  writer.SetF32(prefix + "rope.freq_base", config["rope_theta"]);
  // Read by us; the usual files of these families have no such key.
  if (config.contains("norm_topk_prob")) {
    writer.SetBool(prefix + "expert_weights_norm", config["norm_topk_prob"]);
  }
  std::vector<std::string> tokens;
  for (int i = 0; i < config["vocab_size"]; ++i) tokens.push_back(absl::StrCat("t", i));
  writer.SetString("tokenizer.ggml.model", "gpt2");
  writer.SetString("tokenizer.ggml.pre", "smollm");
  writer.SetStrings("tokenizer.ggml.tokens", tokens);
  writer.SetInts("tokenizer.ggml.token_type",
                 std::vector<int32_t>(tokens.size(), TokenizerSpec::kNormal));
  writer.SetStrings("tokenizer.ggml.merges", {"t 0"});
}

// Rows of a query or key projection in the order of llama.cpp's converter: the two halves of each
// head are interleaved.
std::vector<float> Interleaved(const std::vector<float>& values, int64_t rows, int64_t head_dim) {
  std::vector<float> permuted(values.size());
  const int64_t cols = static_cast<int64_t>(values.size()) / rows;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = row / head_dim, i = row % head_dim;
    const int64_t half = i / (head_dim / 2), pair = i % (head_dim / 2);
    std::copy_n(&values[static_cast<size_t>(row * cols)], cols,
                &permuted[static_cast<size_t>((head * head_dim + 2 * pair + half) * cols)]);
  }
  return permuted;
}

// "blk.0.ffn_up.3.weight" is a part of "blk.0.ffn_up_exps.weight".
std::string GgufName(const std::string& canonical, bool expert) {
  if (!expert) return canonical;
  const size_t weight = canonical.rfind('.');
  return canonical.substr(0, canonical.rfind('.', weight - 1)) + "_exps.weight";
}

void WriteGguf(const json& test_case, const std::filesystem::path& path) {
  const json& config = test_case["config"];
  const std::string architecture = GgufArchitecture(config["model_type"]);
  const DType dtype = ParseDType(test_case["dtype"]);
  GgufWriter writer;
  const bool encoder = architecture == "bert";
  encoder ? AddEncoderMetadata(test_case, writer) : AddGgufMetadata(config, architecture, writer);
  // The converter cuts off what stands before a text's first position.
  const bool behind_padding = encoder && config["model_type"] != "bert";
  const int64_t unused_rows = behind_padding ? config["pad_token_id"].get<int64_t>() + 1 : 0;
  std::string last;  // name of the tensor that experts are added to
  for (Weight& weight : WeightsOf(test_case)) {
    const std::string canonical = *CanonicalTensorName(weight.name, architecture);
    const bool expert = weight.name.find(".experts.") != std::string::npos;
    const std::string name = GgufName(canonical, expert);
    const bool rotated = canonical.find("attn_q.") != std::string::npos ||
                         canonical.find("attn_k.") != std::string::npos;
    if (architecture == "llama" && rotated) {
      weight.values = Interleaved(weight.values, weight.shape[0], config["head_dim"]);
    }
    if (encoder && test_case["pooling"].is_string() && canonical.starts_with("cls.")) continue;
    if (canonical == "position_embd.weight") {
      weight.values.erase(weight.values.begin(),
                          weight.values.begin() + unused_rows * weight.shape.back());
      weight.shape.front() -= unused_rows;
    }
    if (canonical.ends_with("gate_inp_shexp.weight")) weight.shape = {weight.shape.back()};
    std::string data = Encoded(weight.values, dtype);
    if (expert && name == last) {
      writer.Tensor(name).data += data;
      ++writer.Tensor(name).dims.back();
      continue;
    }
    last = name;
    std::vector<uint64_t> dims(weight.shape.rbegin(), weight.shape.rend());
    if (expert) dims.push_back(1);
    writer.AddTensor(name, std::move(dims), GgmlType(dtype), std::move(data));
  }
  WriteFile(path, writer.Build());
}

}  // namespace

TinyGoldens ReadTinyGoldens(const std::string& name) {
  const std::string stem = "tests/testdata/parity/" + name;
  TinyGoldens goldens;
  const json root = json::parse(std::ifstream(stem + ".json"));
  goldens.cases = root["cases"];
  goldens.ids = root["token_ids"].get<std::vector<int32_t>>();
  goldens.stride = root["stride"];
  std::ifstream in(stem + ".bin", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  goldens.logits.resize(bytes.size() / sizeof(float));
  std::copy_n(bytes.data(), bytes.size(), reinterpret_cast<char*>(goldens.logits.data()));
  return goldens;
}

TinyModel::TinyModel(const json& test_case, Format format)
    : path_(std::filesystem::path(testing::TempDir()) /
            absl::StrCat("tiny_", getpid(), "_", test_case["name"].get<std::string>())) {
  if (format == Format::kGguf) {
    path_ += ".gguf";
    WriteGguf(test_case, path_);
  } else {
    WriteFolder(test_case, path_);
  }
}

}  // namespace pregate
