// Every way in which a GGUF file can lie (reliability rows V1, V2, V5, V6, V7, E1 to E9): a typed
// error that names the field, never a signal, never more memory than the file is worth.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/model/model_contents.h"
#include "tests/model/gguf_lies.h"
#include "tests/model/gguf_writer.h"

namespace pregate {
namespace {

constexpr uint64_t kTwo63 = uint64_t{1} << 63;
constexpr uint32_t kTypeString = 8;
constexpr uint32_t kTypeArray = 9;

class GgufLie : public testing::TestWithParam<Lie> {};

TEST_P(GgufLie, IsRefusedByName) { ExpectRefusal(MakeTinyGguf({}), GetParam()); }

std::vector<Lie> HeaderLies() {
  return {
      {"E2_magic", [](auto& w) { w.magic = "GGUX"; }, kMalformed, "gguf.magic"},
      {"E2_version_0", [](auto& w) { w.version = 0; }, kMalformed, "gguf.version"},
      {"E2_version_1", [](auto& w) { w.version = 1; }, kMalformed, "gguf.version"},
      {"E2_version_99", [](auto& w) { w.version = 99; }, kMalformed, "gguf.version"},
      {"E2_byte_swapped", [](auto& w) { w.version = 0x03000000; }, kMalformed, "big-endian"},
      {"V1_n_tensors_2p63m1", [](auto& w) { w.extra_tensors = INT64_MAX - 100; }, kMalformed,
       "gguf.tensor_count"},
      {"V1_n_tensors_minus_1", [](auto& w) { w.extra_tensors = -100; }, kMalformed,
       "gguf.tensor_count"},
      {"V1_n_kv_2p63m1", [](auto& w) { w.extra_metadata = INT64_MAX - 100; }, kMalformed,
       "gguf.metadata_kv_count"},
      {"V1_n_kv_minus_1", [](auto& w) { w.extra_metadata = -100; }, kMalformed,
       "gguf.metadata_kv_count"},
      {"E3_one_tensor_too_many", [](auto& w) { w.extra_tensors = 40000; }, kMalformed, "tensors["},
      {"E3_one_key_too_many", [](auto& w) { w.extra_metadata = 1; }, kMalformed, "truncated"},
      {"E3_one_key_too_few", [](auto& w) { w.extra_metadata = -1; }, kNotServed, "type must be"},
  };
}

std::vector<Lie> MetadataLies() {
  const auto string_of = [](uint64_t length) {
    return
        [length](GgufWriter& w) { w.SetRaw("general.name", kTypeString, Bytes(length) + "tiny"); };
  };
  const auto array_of = [](uint32_t type, uint64_t count) {
    return [=](GgufWriter& w) { w.SetArrayRaw("general.tags", type, count, "12345678"); };
  };
  return {
      {"V2_string_2p64m1", string_of(kMax64), kMalformed, "general.name: truncated"},
      {"V2_string_2p63", string_of(kTwo63), kMalformed, "general.name: truncated"},
      {"V2_string_past_end", string_of(1 << 30), kMalformed, "general.name: truncated"},
      {"V2_strings_2p61", array_of(kTypeString, kTwo63 >> 2), kMalformed, "general.tags"},
      {"E3_u64s_2p61", array_of(10, kTwo63 >> 2), kMalformed, "general.tags: truncated"},
      {"E3_bytes_2p64m1", array_of(0, kMax64), kMalformed, "general.tags: truncated"},
      {"E3_array_of_arrays",
       [](auto& w) {
         std::string nest;
         for (int depth = 0; depth < 10000; ++depth) nest += Bytes(kTypeArray) + Bytes(uint64_t{1});
         w.SetArrayRaw("general.tags", kTypeArray, 1, nest);
       },
       kMalformed, "general.tags: elements must not be arrays"},
      {"E4_key_empty", [](auto& w) { w.SetU32("", 1); }, kMalformed, "].key"},
      {"E4_key_twice", [](auto& w) { w.AddDuplicate("general.name", 1); }, kMalformed,
       "general.name: keys must be unique"},
      {"E4_key_with_nul", [](auto& w) { w.SetU32(std::string_view("a\0b", 3), 1); }, kMalformed,
       "NUL"},
      {"E4_key_not_utf8", [](auto& w) { w.SetU32("a\xFF", 1); }, kMalformed, "UTF-8"},
      {"E4_key_overlong", [](auto& w) { w.SetU32("a\xC0\x80", 1); }, kMalformed, "UTF-8"},
      {"E4_key_too_long", [](auto& w) { w.SetU32(std::string(1 << 16, 'k'), 1); }, kMalformed,
       "].key"},
      {"E4_value_not_utf8", [](auto& w) { w.SetString("general.name", "\xED\xA0\x80"); },
       kMalformed, "general.name: must be UTF-8"},
      {"E4_type_13", [](auto& w) { w.SetRaw("general.name", 13, "12345678"); }, kMalformed,
       "general.name: value type"},
      {"E4_type_255", [](auto& w) { w.SetRaw("general.name", 255, "12345678"); }, kMalformed,
       "general.name: value type"},
      {"E4_element_type_13", array_of(13, 1), kMalformed, "general.tags: value type"},
      {"alignment_0", [](auto& w) { w.SetU32("general.alignment", 0); }, kMalformed,
       "general.alignment"},
      {"alignment_24", [](auto& w) { w.SetU32("general.alignment", 24); }, kMalformed,
       "general.alignment"},
      {"alignment_2p31", [](auto& w) { w.SetU32("general.alignment", 1u << 31); }, kMalformed,
       "general.alignment"},
      {"alignment_string", [](auto& w) { w.SetString("general.alignment", "32"); }, kMalformed,
       "general.alignment: must be an integer; got string"},
  };
}

// Shapes under which the sizes wrap around 64 bits.
std::vector<Lie> ShapeLies() {
  const auto shape = [](std::vector<uint64_t> dims) {
    return [dims](GgufWriter& w) { w.Tensor("output_norm.weight").dims = dims; };
  };
  const uint64_t third = (kMax64 / 3) + 1;
  const std::string field = "tensor output_norm.weight";
  return {
      {"V1_ne_2p63m1", shape({kTwo63 - 1}), kMalformed, field},
      {"V1_ne_2p64m1", shape({kMax64}), kMalformed, field},
      {"V1_ne_size_max_over_4", shape({kMax64 / 4 + 1}), kMalformed, field},
      {"V3_ne_2p63m3_pads_to_0", shape({kTwo63 - 3}), kMalformed, field},
      {"V3_product_wraps_to_64", shape({kTwo63 + 32, 2}), kMalformed, field},
      {"V3_product_wraps_to_0", shape({uint64_t{1} << 32, uint64_t{1} << 32}), kMalformed, field},
      {"V3_product_of_four", shape({1 << 16, 1 << 16, 1 << 16, 1 << 16}), kMalformed, field},
      {"V3_product_wraps_small", shape({third, 3}), kMalformed, field},
      {"E5_shape_4194305", shape({4194305, 4194305, 211106198978564}), kMalformed, field},
      {"V6_dim_0", shape({0}), kMalformed, field},
      {"E5_dim_0_inside", shape({64, 0}), kMalformed, field},
      {"E5_no_dims", [](auto& w) { w.Tensor("output_norm.weight").stated_num_dims = 0; },
       kMalformed, "1 to 4 dimensions; got 0"},
      {"E5_5_dims", shape({64, 1, 1, 1, 1}), kMalformed, "1 to 4 dimensions; got 5"},
      {"E5_2p32m1_dims",
       [](auto& w) { w.Tensor("output_norm.weight").stated_num_dims = 0xFFFFFFFF; }, kMalformed,
       "1 to 4 dimensions; got 4294967295"},
  };
}

std::vector<Lie> TensorLies() {
  const auto offset = [](std::string name, uint64_t value) {
    return [=](GgufWriter& w) {
      GgufWriter::TensorEntry& tensor = w.Tensor(name);
      tensor.has_stated_offset = true;
      tensor.stated_offset = value;
    };
  };
  const std::string first = "token_embd.weight";
  const std::string last = "output_norm.weight";
  const auto type = [](uint32_t number) {
    return [number](GgufWriter& w) { w.Tensor("token_embd.weight").type = number; };
  };
  return {
      {"E5_name_twice",
       [](auto& w) { w.AddTensor("token_embd.weight", {8}, 0, std::string(32, 'x')); }, kMalformed,
       "names must be unique; got 'token_embd.weight'"},
      {"E5_name_long",
       [](auto& w) { w.AddTensor(std::string(1000000, 'n'), {8}, 0, std::string(32, 'x')); },
       kMalformed, "].name"},
      {"E5_name_empty", [](auto& w) { w.AddTensor("", {8}, 0, std::string(32, 'x')); }, kMalformed,
       "].name"},
      {"E6_unaligned", offset(first, 1), kMalformed,
       "token_embd.weight.offset: must be a multiple"},
      {"E6_overlap", offset(first, 32), kMalformed, "no overlap"},
      {"E6_offset_2p64m32", offset(last, kMax64 - 31), kMalformed, "must end within the file"},
      {"E6_offset_2p63", offset(last, kTwo63), kMalformed, "must end within the file"},
      {"E6_same_bytes_twice", offset(last, 0), kMalformed, "no overlap"},
      {"E6_gap",
       [](auto& w) {
         GgufWriter::TensorEntry& tensor = w.Tensor("output_norm.weight");
         tensor.dims = {32};  // and 128 bytes of data remain that belong to nobody
         w.AddTensor("rope_freqs.weight", {8}, 0, std::string(32, 'x'));
       },
       kMalformed, "no gap"},
      {"E7_type_Q2_K", type(10), kNotServed, "token_embd.weight: type must be"},
      {"E7_type_IQ4_NL", type(20), kNotServed, "IQ4_NL"},
      {"E7_type_removed", type(4), kNotServed, "type 4"},
      {"E7_type_1000", type(1000), kNotServed, "type 1000"},
      {"E7_row_not_whole_blocks", type(12), kMalformed, "must be a multiple of 256 elements"},
      {"E8_missing", [](auto& w) { w.RemoveTensor("blk.1.ffn_up.weight"); }, kDoesNotFit,
       "tensor blk.1.ffn_up.weight: must be given"},
      {"E8_missing_table", [](auto& w) { w.RemoveTensor("token_embd.weight"); }, kDoesNotFit,
       "token_embd.weight"},
      {"E8_extra", [](auto& w) { w.AddFloats("blk.0.attn_sinks.weight", {4}); }, kDoesNotFit,
       "tensor blk.0.attn_sinks.weight: the architecture has no such tensor"},
      {"E8_extra_layer", [](auto& w) { w.AddFloats("blk.2.attn_norm.weight", {64}); }, kDoesNotFit,
       "tensor blk.2.attn_norm.weight"},
      {"E8_shape",
       [](auto& w) {
         w.Tensor("blk.0.attn_k.weight").dims = {32, 64};
       },
       kDoesNotFit, "tensor blk.0.attn_k.weight: must be [32, 64]; got [64, 32]"},
      {"rope_factor_nan",
       [](auto& w) {
         const std::vector<float> factors(8, std::nanf(""));
         w.AddTensor("rope_freqs.weight", {8}, 0,
                     std::string(reinterpret_cast<const char*>(factors.data()), 32));
       },
       kMalformed, "rope_freqs.weight[0]"},
  };
}

std::vector<Lie> ConfigLies() {
  std::vector<Lie> lies;
  for (const char* key : {"block_count", "context_length", "embedding_length",
                          "feed_forward_length", "attention.head_count", "attention.head_count_kv",
                          "attention.key_length", "rope.dimension_count"}) {
    const std::vector<Lie> more = SizeLies(std::string("llama.") + key);
    lies.insert(lies.end(), more.begin(), more.end());
  }
  const auto set_float = [](std::string key, float value) {
    return [=](GgufWriter& w) { w.SetF32(key, value); };
  };
  const std::vector<Lie> more = {
      {"E9_layers_2p31", [](auto& w) { w.SetU32("llama.block_count", 1u << 31); }, kMalformed,
       "llama.block_count"},
      {"E9_context_2p60", [](auto& w) { w.SetU64("llama.context_length", uint64_t{1} << 60); },
       kMalformed, "llama.context_length"},
      {"E9_kv_heads_do_not_divide", [](auto& w) { w.SetU32("llama.attention.head_count_kv", 3); },
       kMalformed, "num_kv_heads: must divide num_heads 4; got 3"},
      {"E9_experts_without_their_number_of_a_token",
       [](auto& w) { w.SetU32("llama.expert_count", 8); }, kMalformed,
       "llama.expert_used_count: must be given"},
      {"E9_rope_0", set_float("llama.rope.freq_base", 0), kMalformed, "llama.rope"},
      {"E9_rope_nan", set_float("llama.rope.freq_base", std::nanf("")), kMalformed,
       "llama.rope.freq_base: must be finite"},
      {"E9_rope_negative", set_float("llama.rope.freq_base", -1e4f), kMalformed, "llama.rope"},
      {"E9_rope_odd", [](auto& w) { w.SetU32("llama.rope.dimension_count", 15); }, kMalformed,
       "llama.rope.dimension_count: must be even"},
      {"E9_eps_0", set_float("llama.attention.layer_norm_rms_epsilon", 0), kMalformed,
       "rms_norm_eps"},
      {"E9_eps_infinite", set_float("llama.attention.layer_norm_rms_epsilon", INFINITY), kMalformed,
       "llama.attention.layer_norm_rms_epsilon"},
      {"E9_scaling_longrope", [](auto& w) { w.SetString("llama.rope.scaling.type", "longrope"); },
       kNotServed, "llama.rope.scaling.type"},
      {"E9_scaling_factor_0",
       [](auto& w) {
         w.SetString("llama.rope.scaling.type", "linear");
         w.SetF32("llama.rope.scaling.factor", 0);
       },
       kMalformed, "llama.rope: factor"},
      {"E9_value_length", [](auto& w) { w.SetU32("llama.attention.value_length", 32); }, kNotServed,
       "llama.attention.value_length"},
      {"E9_vocab_size", [](auto& w) { w.SetU32("llama.vocab_size", 260); }, kDoesNotFit,
       "llama.vocab_size"},
      {"architecture_unknown", [](auto& w) { w.SetString("general.architecture", "mamba"); },
       kNotServed, "general.architecture"},
      {"architecture_absent", [](auto& w) { w.Remove("general.architecture"); }, kMalformed,
       "general.architecture: must be given"},
      {"architecture_integer", [](auto& w) { w.SetU32("general.architecture", 1); }, kMalformed,
       "general.architecture: must be a string; got uint32"},
  };
  lies.insert(lies.end(), more.begin(), more.end());
  return lies;
}

// Each array of the tokenizer with each of the 13 element types, save the right one.
std::vector<Lie> TokenizerTypeLies() {
  std::vector<Lie> lies;
  const std::pair<std::string, GgufType> arrays[] = {{"tokens", GgufType::kString},
                                                     {"scores", GgufType::kFloat32},
                                                     {"token_type", GgufType::kInt32},
                                                     {"merges", GgufType::kString}};
  for (const auto& [array, right] : arrays) {
    const std::string key = "tokenizer.ggml." + array;
    for (uint32_t type = 0; type < kNumGgufTypes; ++type) {
      if (static_cast<GgufType>(type) == right) continue;
      constexpr size_t kSizes[kNumGgufTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
      const bool strings = static_cast<GgufType>(type) == GgufType::kString;
      const std::string bytes = strings ? GgufString("a") : std::string(kSizes[type], '\1');
      lies.push_back({"V5_" + array + "_of_" + std::string(GgufTypeName(GgufType(type))),
                      [=](auto& w) { w.SetArrayRaw(key, type, 1, bytes); }, kMalformed, key});
    }
    lies.push_back({"V5_" + array + "_not_an_array", [=](auto& w) { w.SetU32(key, 1); }, kMalformed,
                    key + ": must be an array of"});
  }
  return lies;
}

std::vector<Lie> TokenizerValueLies() {
  const std::string prefix = "tokenizer.ggml.";
  return {
      {"tokens_none", [=](auto& w) { w.SetStrings(prefix + "tokens", {}); }, kMalformed, "tokens"},
      {"tokens_absent", [=](auto& w) { w.Remove(prefix + "tokens"); }, kMalformed, "tokens"},
      {"tokens_not_utf8",
       [=](auto& w) {
         w.SetStrings(prefix + "tokens", {"a", "\x80"});
       },
       kMalformed, "tokens[1]: must be UTF-8"},
      {"E11_tokens_too_few",
       [=](auto& w) {
         w.SetStrings(prefix + "tokens", {"t", "h"});
       },
       kMalformed, "token_type: must have 2 elements"},
      {"E11_vocab_is_not_the_table",
       [=](auto& w) {
         w.SetStrings(prefix + "tokens", {"t", "h"});
         w.SetInts(prefix + "token_type", {1, 1});
         w.SetU32(prefix + "bos_token_id", 0);
         w.SetU32(prefix + "eos_token_id", 1);
       },
       kDoesNotFit, "token_embd.weight: must be a table of 2 rows"},
      {"types_out_of_range",
       [=](auto& w) { w.SetInts(prefix + "token_type", std::vector<int32_t>(259, 7)); }, kMalformed,
       "token_type: every type"},
      {"scores_nan",
       [=](auto& w) { w.SetFloats(prefix + "scores", std::vector<float>(259, std::nanf(""))); },
       kMalformed, "scores: every score"},
      {"merges_without_space", [=](auto& w) { w.SetStrings(prefix + "merges", {"th"}); },
       kMalformed, "merges[0]"},
      {"merges_half",
       [=](auto& w) {
         w.SetStrings(prefix + "merges", {"t h", "t "});
       },
       kMalformed, "merges[1]"},
      {"merges_absent", [=](auto& w) { w.Remove(prefix + "merges"); }, kMalformed, "merges"},
      {"E11_merges_2p20p1",
       [=](auto& w) {
         const uint64_t count = (1 << 20) + 1;
         std::string bytes;
         for (uint64_t i = 0; i < count; ++i) bytes += GgufString("t h");
         w.SetArrayRaw(prefix + "merges", kTypeString, count, bytes);
       },
       kMalformed, "merges: must have at most"},
      {"eos_past_end", [=](auto& w) { w.SetU32(prefix + "eos_token_id", 259); }, kMalformed,
       "eos_token_id: must be in [0, 258]; got 259"},
      {"add_bos_integer", [=](auto& w) { w.SetU32(prefix + "add_bos_token", 1); }, kMalformed,
       "add_bos_token: must be a bool; got uint32"},
      {"model_unknown", [=](auto& w) { w.SetString(prefix + "model", "rwkv"); }, kNotServed,
       "tokenizer.ggml.model"},
      {"wordpiece_without_its_tokens", [=](auto& w) { w.SetString(prefix + "model", "bert"); },
       kMalformed, "seperator_token_id: must be given; got no such token"},
      {"unigram_without_scores", [=](auto& w) { w.SetString(prefix + "model", "t5"); }, kMalformed,
       "scores: must be given for a 't5' tokenizer"},
      {"sentencepiece_without_scores", [=](auto& w) { w.SetString(prefix + "model", "llama"); },
       kMalformed, "scores"},
      {"template_integer", [](auto& w) { w.SetU32("tokenizer.chat_template", 1); }, kMalformed,
       "tokenizer.chat_template: must be a string"},
  };
}

INSTANTIATE_TEST_SUITE_P(Header, GgufLie, testing::ValuesIn(HeaderLies()), LieName);
INSTANTIATE_TEST_SUITE_P(Metadata, GgufLie, testing::ValuesIn(MetadataLies()), LieName);
INSTANTIATE_TEST_SUITE_P(Shape, GgufLie, testing::ValuesIn(ShapeLies()), LieName);
INSTANTIATE_TEST_SUITE_P(Tensor, GgufLie, testing::ValuesIn(TensorLies()), LieName);
INSTANTIATE_TEST_SUITE_P(Config, GgufLie, testing::ValuesIn(ConfigLies()), LieName);
INSTANTIATE_TEST_SUITE_P(TokenizerType, GgufLie, testing::ValuesIn(TokenizerTypeLies()), LieName);
INSTANTIATE_TEST_SUITE_P(TokenizerValue, GgufLie, testing::ValuesIn(TokenizerValueLies()), LieName);

// E1, V7: every cut of a file is refused: at each byte of its first 4 KiB, and around the end of
// each tensor. The copy is as short as the cut, so that a sanitizer sees a read past it.
TEST(GgufTruncation, EveryCutIsRefused) {
  const std::string file = MakeTinyGguf({}).Build();
  const absl::StatusOr<ModelContents> whole = ReadGgufModel(file);
  ASSERT_TRUE(whole.ok()) << whole.status();
  std::vector<size_t> cuts;
  for (size_t cut = 0; cut < 4096; ++cut) cuts.push_back(cut);
  const size_t last_end = file.size();  // 256-byte tensors need no padding at the end
  for (const TensorInfo& tensor : whole->tensors) {
    const size_t end = static_cast<const char*>(tensor.data) - file.data() + tensor.bytes;
    for (const size_t cut : {end - 1, end, end + 1}) {
      if (cut < last_end) cuts.push_back(cut);
    }
  }
  for (const size_t cut : cuts) {
    const std::vector<char> part(file.begin(), file.begin() + cut);
    const auto model = ReadGgufModel({part.data(), part.size()});
    ASSERT_EQ(model.status().code(), kMalformed) << "cut at " << cut << ": " << model.status();
    ASSERT_THAT(std::string(model.status().message()), testing::HasSubstr("truncated"));
  }
}

}  // namespace
}  // namespace pregate
