// Files of encoders: what is read of them, and every way in which they can be refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "engine/model/hf_encoder.h"
#include "engine/model/inspect.h"
#include "engine/model/model_file.h"
#include "tests/model/tiny_case.h"

namespace pregate {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json CaseNamed(const std::string& name) {
  const json root = json::parse(std::ifstream("tests/testdata/parity/encoders.json"));
  for (const json& test_case : root["cases"]) {
    if (test_case["name"] == name) return test_case;
  }
  return {};
}
json BertCase() { return CaseNamed("bert_mean"); }

void Write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

absl::Status OpenChanged(const json& test_case,
                         const std::function<void(const std::filesystem::path&)>& change) {
  const TinyModel model(test_case, TinyModel::Format::kSafetensors);
  change(model.path());
  return ModelFile::Open(model.path()).status();
}

void ExpectRefused(
    const json& test_case, absl::StatusCode code, const std::string& text,
    const std::function<void(const std::filesystem::path&)>& change =
        [](const std::filesystem::path&) {}) {
  const absl::Status status = OpenChanged(test_case, change);
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(text));
}

constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;

TEST(EncoderFilesTest, ConfigurationsThatAreNotServed) {
  const auto with = [](const char* member, const json& value) {
    json changed = BertCase();
    changed["config"][member] = value;
    return changed;
  };
  ExpectRefused(with("hidden_act", "quick_gelu"), kUnimplemented, "hidden_act");
  ExpectRefused(with("position_embedding_type", "relative_key"), kUnimplemented,
                "position_embedding_type");
  ExpectRefused(with("is_decoder", true), kUnimplemented, "is_decoder");
  ExpectRefused(with("architectures", {"BertForTokenClassification"}), kUnimplemented,
                "architectures");
  ExpectRefused(with("num_attention_heads", 3), kInvalid, "must divide hidden_size 128");
  ExpectRefused(with("max_position_embeddings", 0), kInvalid, "max_position_embeddings");
  ExpectRefused(with("layer_norm_eps", 0.0), kInvalid, "layer_norm_eps");
  ExpectRefused(with("max_position_embeddings", 65), kPrecondition, "position_embd.weight");
  ExpectRefused(with("num_hidden_layers", 4), kPrecondition, "blk.3");
  ExpectRefused(with("architectures", {"BertForSequenceClassification"}), kPrecondition,
                "cls.output");
  json score = CaseNamed("bert_score");
  score["config"]["id2label"] = {{"0", "a"}, {"1", "b"}};
  ExpectRefused(score, kUnimplemented, "id2label");
  json roberta = CaseNamed("roberta_mean");
  roberta["config"]["pad_token_id"] = 65;
  ExpectRefused(roberta, kInvalid, "max_position_embeddings");
}

TEST(EncoderFilesTest, FilesOfSentenceTransformers) {
  const auto writes = [](const char* name, const std::string& text) {
    return [=](const std::filesystem::path& folder) { Write(folder / name, text); };
  };
  ExpectRefused(BertCase(), kUnimplemented, "Dense",
                writes("modules.json", R"([{"type": "a.Dense", "path": "2_Dense"}])"));
  ExpectRefused(BertCase(), kUnimplemented, "Transformer",
                writes("modules.json", R"([{"type": "a.Transformer", "path": "0_Transformer"}])"));
  ExpectRefused(BertCase(), kInvalid, "modules.json: path",
                writes("modules.json", R"([{"type": "a.Pooling", "path": "../../etc"}])"));
  ExpectRefused(BertCase(), kInvalid, "modules.json", writes("modules.json", R"([7])"));
  ExpectRefused(BertCase(), kInvalid, "modules.json", writes("modules.json", R"([{"type": 7}])"));
  ExpectRefused(BertCase(), kInvalid, "modules.json", writes("modules.json", "[{"));
  ExpectRefused(BertCase(), kPrecondition, "3_Pooling/config.json",
                writes("modules.json", R"([{"type": "a.Pooling", "path": "3_Pooling"}])"));
  for (const char* text : {R"({"pooling_mode_max_tokens": true})", "{}",
                           R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true})",
                           R"({"pooling_mode": "weightedmean"})"}) {
    ExpectRefused(BertCase(), kUnimplemented, "pooling_mode",
                  writes("1_Pooling/config.json", text));
  }
  ExpectRefused(BertCase(), kInvalid, "pooling_mode_cls_token",
                writes("1_Pooling/config.json", R"({"pooling_mode_cls_token": 1})"));
  ExpectRefused(BertCase(), kUnimplemented, "do_lower_case",
                writes("sentence_bert_config.json", R"({"do_lower_case": true})"));
  ExpectRefused(BertCase(), kInvalid, "max_seq_length",
                writes("sentence_bert_config.json", R"({"max_seq_length": 0})"));

  const TinyModel model(BertCase(), TinyModel::Format::kSafetensors);
  const std::filesystem::path folder = model.path();
  Write(folder / "1_Pooling/config.json", R"({"pooling_mode": "lasttoken"})");
  Write(folder / "sentence_bert_config.json", R"({"max_seq_length": 1000000})");
  const auto file = ModelFile::Open(model.path());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->config().encoder.pooling, Pooling::kLast);
  EXPECT_EQ((*file)->config().encoder.max_length, (*file)->config().context_length);
  std::filesystem::remove(folder / "modules.json");
  EXPECT_EQ((*ModelFile::Open(model.path()))->config().encoder.pooling, Pooling::kMean);
}

TEST(EncoderFilesTest, Names) {
  const auto name = [](std::string_view theirs) {
    return EncoderTensorName(theirs).value_or("(unknown)");
  };
  EXPECT_EQ(name("embeddings.word_embeddings.weight"), "token_embd.weight");
  EXPECT_EQ(name("bert.embeddings.LayerNorm.gamma"), "token_embd_norm.weight");
  EXPECT_EQ(name("roberta.encoder.layer.11.attention.self.key.bias"), "blk.11.attn_k.bias");
  EXPECT_EQ(name("model.encoder.layer.0.output.LayerNorm.beta"), "blk.0.layer_output_norm.bias");
  EXPECT_EQ(name("classifier.weight"), "cls.output.weight");
  EXPECT_EQ(name("classifier.dense.weight"), "cls.weight");
  EXPECT_EQ(name("bert.pooler.dense.bias"), "cls.bias");
  EXPECT_EQ(name("embeddings.position_ids"), "");
  EXPECT_EQ(name("cls.predictions.decoder.weight"), "");
  EXPECT_EQ(name("lm_head.dense.weight"), "");
  for (const char* unknown :
       {"encoder.layer.01.output.dense.weight", "encoder.layer..x.weight",
        "encoder.layer.99999.output.dense.weight", "encoder.layer.1",
        "encoder.layer.1.nothing.weight", "x", "", ".", "pooler.dense.scale"}) {
    EXPECT_EQ(EncoderTensorName(unknown), std::nullopt) << unknown;
  }
}

TEST(EncoderFilesTest, InspectTellsOfAnEncoder) {
  const TinyModel model(CaseNamed("xlm_roberta_score"), TinyModel::Format::kGguf);
  const auto text = DescribeModel(model.path());
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, HasSubstr("scores pairs; positions 0 to 63, 1 kinds of tokens"));
  EXPECT_THAT(*text, HasSubstr("WordPiece"));
  const TinyModel vectors(BertCase(), TinyModel::Format::kSafetensors);
  EXPECT_THAT(*DescribeModel(vectors.path()), HasSubstr("vectors by the mean of rows"));
}

}  // namespace
}  // namespace pregate
