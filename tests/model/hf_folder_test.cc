// Hugging Face folders: whole and in shards, aligned or not, and what is refused (row E12).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/model/hf_names.h"
#include "engine/model/inspect.h"
#include "engine/model/model_file.h"
#include "tests/model/gguf_writer.h"

namespace pregate {
namespace {

using absl::StatusCode;
using nlohmann::json;

constexpr int kVocab = 264;  // the tokenizer has 258: the table is padded
constexpr int kHidden = 32;

// Tensors by name: shape, and a value to fill them with.
using Tensors = std::map<std::string, std::vector<int64_t>>;

Tensors LlamaTensors() {
  Tensors tensors = {{"model.embed_tokens.weight", {kVocab, kHidden}},
                     {"model.norm.weight", {kHidden}},
                     {"lm_head.weight", {kVocab, kHidden}}};
  for (int layer = 0; layer < 2; ++layer) {
    const std::string p = "model.layers." + std::to_string(layer) + ".";
    tensors[p + "input_layernorm.weight"] = {kHidden};
    tensors[p + "post_attention_layernorm.weight"] = {kHidden};
    tensors[p + "self_attn.q_proj.weight"] = {32, kHidden};
    tensors[p + "self_attn.k_proj.weight"] = {16, kHidden};
    tensors[p + "self_attn.v_proj.weight"] = {16, kHidden};
    tensors[p + "self_attn.o_proj.weight"] = {kHidden, 32};
    tensors[p + "mlp.gate_proj.weight"] = {48, kHidden};
    tensors[p + "mlp.up_proj.weight"] = {48, kHidden};
    tensors[p + "mlp.down_proj.weight"] = {kHidden, 48};
    tensors[p + "self_attn.rotary_emb.inv_freq"] = {4};
  }
  return tensors;
}

json LlamaConfig() {
  return {{"model_type", "llama"},    {"vocab_size", kVocab},   {"hidden_size", kHidden},
          {"intermediate_size", 48},  {"num_hidden_layers", 2}, {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"rms_norm_eps", 1e-5},   {"max_position_embeddings", 128}};
}

// A safetensors file of BF16 ones (0x3F80). `header_pad` spaces follow the header.
std::string SafetensorsFile(const Tensors& tensors, size_t header_pad) {
  json header;
  uint64_t offset = 0;
  for (const auto& [name, shape] : tensors) {
    uint64_t bytes = 2;
    for (const int64_t dim : shape) bytes *= dim;
    header[name] = {
        {"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8 + header_pad, ' ');
  std::string data;
  for (uint64_t i = 0; i < offset; i += 2) data += "\x80\x3F";
  return Bytes<uint64_t>(text.size()) + text + data;
}

std::string TokenizerJson() {
  json vocab;
  const std::vector<std::string> alphabet = ByteAlphabet();
  for (size_t byte = 0; byte < alphabet.size(); ++byte) vocab[alphabet[byte]] = byte;
  const auto special = [](int id, const char* text) {
    return json{{"id", id},        {"content", text}, {"special", true},    {"single_word", false},
                {"lstrip", false}, {"rstrip", false}, {"normalized", false}};
  };
  const json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  const json tokenizer = {
      {"added_tokens", {special(256, "<|im_start|>"), special(257, "<|im_end|>")}},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}}}};
  return tokenizer.dump();
}

class HfFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              ("hf_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    Write("config.json", LlamaConfig().dump());
    Write("tokenizer.json", TokenizerJson());
    Write("tokenizer_config.json",
          R"({"eos_token": "<|im_end|>", "chat_template": [{"name": "rag", "template": "R"},
              {"name": "default", "template": "{{ messages }}"}]})");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  void WriteIndex(const json& weight_map) {
    Write("model.safetensors.index.json", json{{"weight_map", weight_map}}.dump());
  }
  // Splits the tensors over two shards with an index.
  void WriteShards() {
    json weight_map;
    std::map<std::string, Tensors> shards;
    for (const auto& [name, shape] : LlamaTensors()) {
      const bool first = name.find("layers.0") != std::string::npos;
      const std::string shard = first ? "model-1-of-2.safetensors" : "model-2-of-2.safetensors";
      weight_map[name] = shard;
      shards[shard][name] = shape;
    }
    for (const auto& [shard, tensors] : shards) Write(shard, SafetensorsFile(tensors, 0));
    WriteIndex(weight_map);
  }
  absl::StatusOr<std::unique_ptr<ModelFile>> Open() { return ModelFile::Open(folder_.string()); }
  void ExpectError(StatusCode code, const std::string& says) {
    const auto file = Open();
    EXPECT_EQ(file.status().code(), code) << file.status();
    EXPECT_THAT(std::string(file.status().message()), testing::HasSubstr(says));
  }

  std::filesystem::path folder_;
};

void ExpectTinyLlama(const ModelFile& file) {
  EXPECT_EQ(file.format(), "safetensors");
  EXPECT_EQ(file.tensors().size(), 21u);
  EXPECT_EQ(file.chat_template(), "{{ messages }}");
  const auto down = file.Require("blk.1.ffn_down.weight", kHidden, 48);
  ASSERT_TRUE(down.ok()) << down.status();
  EXPECT_EQ(down->dtype, DType::kBF16);
  EXPECT_EQ(BFloat16ToFloat(down->Row<uint16_t>(31)[47]), 1.0f);
  const TokenizerSpec& spec = file.tokenizer();
  EXPECT_EQ(spec.tokens.size(), static_cast<size_t>(kVocab));
  EXPECT_EQ(spec.tokens[257], "<|im_end|>");
  EXPECT_EQ(spec.token_types[kVocab - 1], TokenizerSpec::kUnused);
  EXPECT_EQ(spec.eos_id, 257);
}

TEST_F(HfFolder, Whole) {
  Write("model.safetensors", SafetensorsFile(LlamaTensors(), 0));
  const auto file = Open();
  ASSERT_TRUE(file.ok()) << file.status();
  ExpectTinyLlama(**file);
  Write("chat_template.jinja", "from its own file");
  EXPECT_EQ((*Open())->chat_template(), "from its own file");
}

TEST_F(HfFolder, MisalignedDataIsCopied) {
  Write("model.safetensors", SafetensorsFile(LlamaTensors(), 1));
  const auto file = Open();
  ASSERT_TRUE(file.ok()) << file.status();
  ExpectTinyLlama(**file);
  for (const TensorInfo& tensor : (*file)->tensors()) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data) % 2, 0u);
  }
}

TEST_F(HfFolder, Shards) {
  WriteShards();
  const auto file = Open();
  ASSERT_TRUE(file.ok()) << file.status();
  ExpectTinyLlama(**file);
}

TEST_F(HfFolder, ShardNamesMustStayInTheFolder) {
  for (const char* name : {"../model.safetensors", "/etc/passwd", "a/b", "..", ".", "", ".hidden",
                           "a\\b", "%2e%2e", "a\nb", "~", "a b", "\xC3\xA4"}) {
    WriteIndex({{"lm_head.weight", name}});
    ExpectError(StatusCode::kInvalidArgument, "weight_map.lm_head.weight: must be the plain name");
  }
  WriteIndex({{"lm_head.weight", std::string("a\0b", 3)}});
  ExpectError(StatusCode::kInvalidArgument, "must be the plain name");
  WriteIndex({{"lm_head.weight", 7}});
  ExpectError(StatusCode::kInvalidArgument, "must be a string; got number");
  WriteIndex(json::object());
  ExpectError(StatusCode::kInvalidArgument, "must name 1 to");
  Write("model.safetensors.index.json", "{}");
  ExpectError(StatusCode::kInvalidArgument, "weight_map: must be given");
}

TEST_F(HfFolder, ShardsMustHoldWhatTheIndexSays) {
  WriteShards();
  std::filesystem::rename(folder_ / "model-1-of-2.safetensors", folder_ / "elsewhere");
  ExpectError(StatusCode::kNotFound, "model-1-of-2.safetensors");
  Tensors less = LlamaTensors();
  std::erase_if(less, [](const auto& t) { return t.first.find("layers.0") == std::string::npos; });
  less.erase("model.layers.0.mlp.up_proj.weight");
  Write("model-1-of-2.safetensors", SafetensorsFile(less, 0));
  ExpectError(StatusCode::kFailedPrecondition, "must hold the 10 tensors that the index says");
}

TEST_F(HfFolder, MissingExtraAndMisshapenTensors) {
  Tensors tensors = LlamaTensors();
  tensors.erase("lm_head.weight");
  Write("model.safetensors", SafetensorsFile(tensors, 0));
  ExpectError(StatusCode::kFailedPrecondition, "tensor output.weight: must be given");

  json tied = LlamaConfig();
  tied["tie_word_embeddings"] = true;
  Write("config.json", tied.dump());
  EXPECT_TRUE(Open().ok());
  Write("model.safetensors", SafetensorsFile(LlamaTensors(), 0));  // a head that is not used
  EXPECT_FALSE((*Open())->Find("output.weight"));

  tensors = LlamaTensors();
  tensors["model.layers.0.mlp.router.weight"] = {4, kHidden};
  Write("model.safetensors", SafetensorsFile(tensors, 0));
  ExpectError(StatusCode::kFailedPrecondition, "tensor model.layers.0.mlp.router.weight");

  tensors = LlamaTensors();
  tensors["model.layers.0.ln1.weight"] = {kHidden};  // another name of a norm that is there
  Write("model.safetensors", SafetensorsFile(tensors, 0));
  ExpectError(StatusCode::kInvalidArgument, "tensors must be unique");

  tensors = LlamaTensors();
  tensors["model.norm.weight"] = {kHidden + 1};
  Write("model.safetensors", SafetensorsFile(tensors, 0));
  ExpectError(StatusCode::kFailedPrecondition, "output_norm.weight: must be [1, 32]; got [33]");
}

TEST_F(HfFolder, Experts) {
  json config = LlamaConfig();
  config.update({{"model_type", "mixtral"}, {"num_local_experts", 3}, {"num_experts_per_tok", 2}});
  Write("config.json", config.dump());
  Tensors sound = LlamaTensors();
  std::erase_if(sound, [](const auto& t) { return t.first.find(".mlp.") != std::string::npos; });
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    sound[layer + "block_sparse_moe.gate.weight"] = {3, kHidden};
    for (const std::string expert : {"0", "1", "2"}) {
      const std::string stem = layer + "block_sparse_moe.experts." + expert;
      sound[stem + ".w1.weight"] = sound[stem + ".w3.weight"] = {48, kHidden};
      sound[stem + ".w2.weight"] = {kHidden, 48};
    }
  }
  Write("model.safetensors", SafetensorsFile(sound, 0));
  const auto file = Open();
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->Require("blk.1.ffn_down.2.weight", kHidden, 48).ok());

  const auto text = DescribeModel(folder_.string());
  ASSERT_TRUE(text.ok()) << text.status();
  for (const char* part : {"2 of 3 a token, FFN 48; weights by softmax, renormalised\n",
                           "blk.1.ffn_down.*.weight", "3 x [32, 48]"}) {
    EXPECT_THAT(*text, testing::HasSubstr(part));
  }

  const std::string expert = "model.layers.1.block_sparse_moe.experts.";
  Tensors tensors = sound;
  tensors.erase(expert + "2.w3.weight");
  Write("model.safetensors", SafetensorsFile(tensors, 0));
  ExpectError(StatusCode::kFailedPrecondition, "tensor blk.1.ffn_up.2.weight: must be given");
  tensors = sound;
  tensors[expert + "3.w3.weight"] = {48, kHidden};
  Write("model.safetensors", SafetensorsFile(tensors, 0));
  ExpectError(StatusCode::kFailedPrecondition, "the architecture has no such tensor");
  tensors = sound;
  tensors[expert + "0.w2.weight"] = {48, kHidden};
  Write("model.safetensors", SafetensorsFile(tensors, 0));
  ExpectError(StatusCode::kFailedPrecondition, "ffn_down.0.weight: must be [32, 48]; got [48, 32]");
  tensors = sound;
  tensors["model.layers.0.mlp.gate_proj.weight"] = {48, kHidden};
  Write("model.safetensors", SafetensorsFile(tensors, 0));
  ExpectError(StatusCode::kFailedPrecondition, "the architecture has no such tensor");
  config["num_experts_per_tok"] = 4;
  Write("config.json", config.dump());
  ExpectError(StatusCode::kInvalidArgument, "num_experts: must be in [experts_per_token 4, 1024]");
}

TEST_F(HfFolder, MissingFiles) {
  ExpectError(StatusCode::kNotFound, "model.safetensors: must be given");
  Write("model.safetensors", SafetensorsFile(LlamaTensors(), 0));
  std::filesystem::remove(folder_ / "tokenizer.json");
  ExpectError(StatusCode::kNotFound, "tokenizer.json");
  Write("vocab.txt", "word\n");
  ExpectError(StatusCode::kInvalidArgument, "vocab.txt: must have a line [UNK]; got none");
  std::filesystem::remove(folder_ / "config.json");
  ExpectError(StatusCode::kNotFound, "config.json");
}

TEST_F(HfFolder, VocabularyMustFitTheTable) {
  json config = LlamaConfig();
  config["vocab_size"] = 200;
  Write("config.json", config.dump());
  Tensors tensors = LlamaTensors();
  tensors["model.embed_tokens.weight"] = tensors["lm_head.weight"] = {200, kHidden};
  Write("model.safetensors", SafetensorsFile(tensors, 0));
  ExpectError(StatusCode::kFailedPrecondition, "tokenizer.json: must have at most vocab_size 200");
}

TEST_F(HfFolder, BrokenChatTemplates) {
  Write("model.safetensors", SafetensorsFile(LlamaTensors(), 0));
  for (const char* broken : {R"({"chat_template": 1})", R"({"chat_template": [1]})",
                             R"({"chat_template": [{"name": "default"}]})"}) {
    Write("tokenizer_config.json", broken);
    ExpectError(StatusCode::kInvalidArgument, "chat_template");
  }
}

TEST_F(HfFolder, IsDescribed) {
  Write("model.safetensors", SafetensorsFile(LlamaTensors(), 0));
  const auto text = DescribeModel(folder_.string());
  ASSERT_TRUE(text.ok()) << text.status();
  for (const char* part : {"safetensors", "llama", "2 layers, hidden 32, FFN 48, vocabulary 264\n",
                           "4 heads of 8", "byte-level BPE, 264 tokens", "EOS 257 '<|im_end|>'",
                           "blk.1.ffn_down.weight", "[32, 48]", "21 tensors"}) {
    EXPECT_THAT(*text, testing::HasSubstr(part));
  }
  EXPECT_EQ(DescribeModel("/nonexistent").status().code(), StatusCode::kNotFound);
}

TEST(CanonicalTensorName, FollowsTheFamilies) {
  const auto name = [](const char* theirs, const char* architecture) {
    return CanonicalTensorName(theirs, architecture).value_or("(unknown)");
  };
  EXPECT_EQ(name("model.layers.3.post_attention_layernorm.weight", "llama"),
            "blk.3.ffn_norm.weight");
  EXPECT_EQ(name("model.layers.3.post_attention_layernorm.weight", "gemma3"),
            "blk.3.post_attention_norm.weight");
  EXPECT_EQ(name("model.layers.3.pre_feedforward_layernorm.weight", "gemma3"),
            "blk.3.ffn_norm.weight");
  EXPECT_EQ(name("model.layers.11.self_attn.q_proj.bias", "qwen2"), "blk.11.attn_q.bias");
  EXPECT_EQ(name("language_model.model.norm.weight", "gemma3"), "output_norm.weight");
  EXPECT_EQ(name("model.language_model.layers.0.mlp.up_proj.weight", "gemma3"),
            "blk.0.ffn_up.weight");
  EXPECT_EQ(name("vision_tower.encoder.layers.0.mlp.fc1.weight", "gemma3"), "");
  EXPECT_EQ(name("model.layers.0.self_attn.rotary_emb.inv_freq", "llama"), "");
  EXPECT_EQ(name("model.layers.3.mlp.gate.weight", "olmoe"), "blk.3.ffn_gate_inp.weight");
  EXPECT_EQ(name("model.layers.3.block_sparse_moe.gate.weight", "mixtral"),
            "blk.3.ffn_gate_inp.weight");
  EXPECT_EQ(name("model.layers.3.mlp.experts.63.down_proj.weight", "qwen3moe"),
            "blk.3.ffn_down.63.weight");
  EXPECT_EQ(name("model.layers.3.block_sparse_moe.experts.7.w3.weight", "mixtral"),
            "blk.3.ffn_up.7.weight");
  EXPECT_EQ(name("model.layers.3.mlp.shared_expert.gate_proj.weight", "qwen2moe"),
            "blk.3.ffn_gate_shexp.weight");
  EXPECT_EQ(name("model.layers.3.mlp.shared_expert_gate.weight", "qwen2moe"),
            "blk.3.ffn_gate_inp_shexp.weight");
  for (const char* unknown :
       {"model.layers.0.mlp.experts.gate_proj.weight", "model.layers.0.mlp.experts.1.w4.weight",
        "model.layers.0.mlp.experts.01.w1.weight", "model.layers.0.mlp.experts.99999.w1.weight",
        "model.layers.00.mlp.gate.weight", "", ".", "model", "model.", "weight",
        "model.layers..mlp.up_proj.weight", "model.layers.x.mlp.up_proj.weight",
        "model.layers.99999.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.qweight",
        "transformer.h.0.attn.weight", "norm.weight"}) {
    EXPECT_EQ(CanonicalTensorName(unknown, "llama"), std::nullopt) << unknown;
  }
}

}  // namespace
}  // namespace pregate
