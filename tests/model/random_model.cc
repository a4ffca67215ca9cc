#include "tests/model/random_model.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <deque>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

uint64_t Fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

uint64_t SplitMix64(uint64_t state) {
  uint64_t z = state + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::string Utf8(uint32_t code) {
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

// GPT-2's visible spelling of the 256 bytes.
std::vector<std::string> ByteTokens() {
  std::vector<std::string> tokens;
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    tokens.push_back(Utf8(visible ? byte : next++));
  }
  return tokens;
}

TokenizerSpec ByteTokenizer(int32_t vocab_size) {
  TokenizerSpec spec;
  spec.model = TokenizerSpec::Model::kByteBpe;
  spec.pre_tokenizer = "gpt2";
  spec.tokens = ByteTokens();
  spec.tokens.push_back("<|end|>");
  for (int i = 0; static_cast<int32_t>(spec.tokens.size()) < vocab_size; ++i) {
    spec.tokens.push_back({static_cast<char>('a' + i / 26 % 26), static_cast<char>('a' + i % 26),
                           static_cast<char>('A' + i / 676 % 26)});
  }
  spec.token_types.assign(spec.tokens.size(), TokenizerSpec::kNormal);
  spec.token_types[256] = TokenizerSpec::kControl;
  spec.eos_id = 256;
  return spec;
}

ModelConfig ConfigOf(const RandomModelSpec& spec) {
  ModelConfig config;
  config.architecture = "llama";
  config.name = "random";
  config.num_layers = spec.num_layers;
  config.hidden_size = spec.hidden_size;
  config.ffn_size = spec.ffn_size;
  config.num_heads = spec.num_heads;
  config.num_kv_heads = spec.num_kv_heads;
  config.head_dim = spec.head_dim;
  config.vocab_size = spec.vocab_size;
  config.context_length = spec.context_length;
  config.attention_scale = 1.0f / std::sqrt(static_cast<float>(spec.head_dim));
  config.tied_embeddings = spec.tied_embeddings;
  if (spec.num_experts > 0) {
    config.mixture.num_experts.assign(static_cast<size_t>(spec.num_layers), spec.num_experts);
    config.mixture.gate.k = spec.experts_per_token;
    config.mixture.expert_ffn_size = spec.ffn_size;
    config.mixture.shared_ffn_size = spec.shared_ffn_size;
  }
  for (int i = 0; i < spec.head_dim / 2; ++i) {
    config.inv_freq.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / spec.head_dim)));
  }
  if (spec.sliding_window > 0) {
    config.sliding_window = spec.sliding_window;
    for (int i = 0; i < spec.num_layers; ++i) config.layer_is_local.push_back(i % 2 == 0);
  }
  return config;
}

// `bytes` of blocks whose values are about 0.02 large: random bits around exponents and scales that
// are not. A piece of some MB comes again and again.
std::vector<uint8_t> MeaninglessBlocks(DType dtype, int64_t bytes, uint64_t seed) {
  const auto block = static_cast<size_t>(GetDTypeInfo(dtype).block_bytes);
  std::vector<uint8_t> data(static_cast<size_t>(bytes));
  const size_t piece = std::min(data.size(), (size_t{16} << 20) / block * block);
  for (size_t i = 0; i + 8 <= piece; i += 8) {
    const uint64_t bits = SplitMix64(seed + i);
    std::memcpy(&data[i], &bits, sizeof(bits));
  }
  const auto set_half = [](uint8_t* at, uint16_t half) { std::memcpy(at, &half, sizeof(half)); };
  for (size_t i = 0; i + block <= piece; i += block) {
    uint8_t* const at = &data[i];
    if (dtype == DType::kBF16) {
      set_half(at, static_cast<uint16_t>((at[0] & 0x7F) | ((at[1] & 0x80) << 8) | 0x3C80));
    } else if (dtype == DType::kQ4_0) {
      set_half(at, FloatToHalf((at[1] & 0x80) != 0 ? -0.0043f : 0.0043f));
    } else {
      assert(dtype == DType::kQ4_K);
      set_half(at, FloatToHalf(7.7e-5f));
      set_half(at + 2, FloatToHalf(7.5f * 7.7e-5f));
    }
  }
  for (size_t done = piece; done < data.size(); done += piece) {
    std::memcpy(&data[done], data.data(), std::min(piece, data.size() - done));
  }
  return data;
}

class RandomModel : public ModelFile {
 public:
  explicit RandomModel(const RandomModelSpec& spec)
      : seed_(spec.seed),
        one_matrix_(spec.one_matrix),
        config_(ConfigOf(spec)),
        tokenizer_(ByteTokenizer(spec.vocab_size)) {
    const int64_t hidden = spec.hidden_size, vocab = spec.vocab_size;
    const int64_t query = int64_t{spec.num_heads} * spec.head_dim;
    const int64_t kv = int64_t{spec.num_kv_heads} * spec.head_dim;
    Add("token_embd.weight", spec.matrix_dtype, {vocab, hidden});
    Add("output_norm.weight", DType::kF32, {hidden});
    if (!spec.tied_embeddings) Add("output.weight", spec.matrix_dtype, {vocab, hidden});
    for (int i = 0; i < spec.num_layers; ++i) {
      const std::string blk = absl::StrCat("blk.", i, ".");
      Add(blk + "attn_norm.weight", DType::kF32, {hidden});
      Add(blk + "attn_q.weight", spec.matrix_dtype, {query, hidden});
      Add(blk + "attn_k.weight", spec.matrix_dtype, {kv, hidden});
      Add(blk + "attn_v.weight", spec.matrix_dtype, {kv, hidden});
      Add(blk + "attn_output.weight", spec.matrix_dtype, {hidden, query});
      Add(blk + "ffn_norm.weight", DType::kF32, {hidden});
      AddFfn(spec, blk);
      if (spec.qkv_bias) {
        Add(blk + "attn_q.bias", DType::kF32, {query});
        Add(blk + "attn_k.bias", DType::kF32, {kv});
        Add(blk + "attn_v.bias", DType::kF32, {kv});
      }
      if (spec.qk_norm) {
        Add(blk + "attn_q_norm.weight", DType::kF32, {spec.head_dim});
        Add(blk + "attn_k_norm.weight", DType::kF32, {spec.head_dim});
      }
    }
    if (spec.one_matrix) ShareOneMatrix(spec.matrix_dtype);
  }

  const ModelConfig& config() const override { return config_; }
  const TokenizerSpec& tokenizer() const override { return tokenizer_; }
  const std::string& chat_template() const override { return chat_template_; }
  std::string_view format() const override { return "random"; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void Release(ConstTensor) const override {}

 protected:
  const TensorInfo* FindInfo(std::string_view name) const override {
    const auto found = index_.find(absl::string_view(name.data(), name.size()));
    return found == index_.end() ? nullptr : &tensors_[found->second];
  }

 private:
  // gate, up and down projection.
  void AddNeurons(const RandomModelSpec& spec, const std::string& ffn, const std::string& suffix,
                  int64_t width) {
    Add(ffn + "gate" + suffix, spec.matrix_dtype, {width, spec.hidden_size});
    Add(ffn + "up" + suffix, spec.matrix_dtype, {width, spec.hidden_size});
    Add(ffn + "down" + suffix, spec.matrix_dtype, {spec.hidden_size, width});
  }
  void AddFfn(const RandomModelSpec& spec, const std::string& blk) {
    const std::string ffn = blk + "ffn_";
    if (spec.num_experts == 0) return AddNeurons(spec, ffn, ".weight", spec.ffn_size);
    Add(ffn + "gate_inp.weight", DType::kF32, {spec.num_experts, spec.hidden_size});
    for (int e = 0; e < spec.num_experts; ++e) {
      AddNeurons(spec, ffn, absl::StrCat(".", e, ".weight"), spec.ffn_size);
    }
    if (spec.shared_ffn_size == 0) return;
    AddNeurons(spec, ffn, "_shexp.weight", spec.shared_ffn_size);
    Add(ffn + "gate_inp_shexp.weight", DType::kF32, {1, spec.hidden_size});
  }

  void Add(const std::string& name, DType dtype, std::vector<int64_t> shape) {
    const int64_t rows = shape.size() == 1 ? 1 : shape[0];
    index_[name] = tensors_.size();
    if (one_matrix_ && dtype != DType::kF32) {
      const int64_t bytes = rows * RowBytes(dtype, shape.back());
      tensors_.push_back({name, dtype, std::move(shape), nullptr, bytes});
      return;
    }
    data_.push_back(
        EncodeTensor(RandomTensor(absl::StrCat(seed_, ":", name), rows, shape.back()), dtype));
    tensors_.push_back({name, dtype, std::move(shape), data_.back().data(),
                        static_cast<int64_t>(data_.back().size())});
  }

  // Gives every matrix the bytes of the largest.
  void ShareOneMatrix(DType dtype) {
    int64_t largest = 0;
    for (const TensorInfo& tensor : tensors_) {
      if (tensor.data == nullptr) largest = std::max(largest, tensor.bytes);
    }
    data_.push_back(MeaninglessBlocks(dtype, largest, seed_));
    for (TensorInfo& tensor : tensors_) {
      if (tensor.data == nullptr) tensor.data = data_.back().data();
    }
  }

  uint64_t seed_;
  bool one_matrix_;
  ModelConfig config_;
  TokenizerSpec tokenizer_;
  std::string chat_template_;
  std::deque<std::vector<uint8_t>> data_;
  std::vector<TensorInfo> tensors_;
  absl::flat_hash_map<std::string, size_t> index_;  // into tensors_
};

void EncodeQ8Block(const float* values, uint8_t* block) {
  float largest = 0.0f;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(values[i]));
  const uint16_t scale = FloatToHalf(largest / 127.0f);
  const float step = HalfToFloat(scale);
  std::memcpy(block, &scale, sizeof(scale));
  for (int i = 0; i < 32; ++i) {
    const float quant = step == 0.0f ? 0.0f : std::nearbyint(values[i] / step);
    block[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(std::clamp(quant, -127.0f, 127.0f)));
  }
}

}  // namespace

float RandomElement(std::string_view name, uint64_t index) {
  const uint64_t bits = SplitMix64(Fnv1a(name) + index * 0x9e3779b97f4a7c15u);
  return static_cast<float>(static_cast<int32_t>(bits >> 40) - (1 << 23)) * 0x1p-23f;
}

std::vector<float> RandomTensor(std::string_view name, int64_t rows, int64_t cols) {
  std::vector<float> values(static_cast<size_t>(rows * cols));
  const bool norm = name.find("norm") != std::string_view::npos;
  const bool vector = rows == 1;
  const float scale =
      vector ? 0.25f : static_cast<float>(std::sqrt(3.0 / static_cast<double>(cols)));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = RandomElement(name, i) * scale + (norm ? 1.0f : 0.0f);
  }
  return values;
}

std::vector<uint8_t> EncodeTensor(const std::vector<float>& values, DType dtype) {
  const int64_t count = static_cast<int64_t>(values.size());
  std::vector<uint8_t> bytes(static_cast<size_t>(RowBytes(dtype, count)));
  if (dtype == DType::kF32) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
  } else if (dtype == DType::kQ8_0) {
    for (int64_t b = 0; b < count / 32; ++b) EncodeQ8Block(&values[b * 32], &bytes[b * 34]);
  } else {
    assert(dtype == DType::kF16 || dtype == DType::kBF16);
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t half =
          dtype == DType::kF16 ? FloatToHalf(values[i]) : FloatToBFloat16(values[i]);
      std::memcpy(&bytes[2 * i], &half, sizeof(half));
    }
  }
  return bytes;
}

std::unique_ptr<ModelFile> MakeRandomModel(const RandomModelSpec& spec) {
  assert(spec.vocab_size > 256);
  return std::make_unique<RandomModel>(spec);
}

}  // namespace pregate
