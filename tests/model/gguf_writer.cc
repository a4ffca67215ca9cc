#include "tests/model/gguf_writer.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace pregate {
namespace {

uint32_t Number(GgufType type) { return static_cast<uint32_t>(type); }

template <typename T>
std::string ArrayBytes(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// A code point below U+0800 in UTF-8.
std::string Utf8(uint32_t code_point) {
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xC0 | (code_point >> 6)),
          static_cast<char>(0x80 | (code_point & 0x3F))};
}

void AddTokenizer(GgufWriter& writer) {
  std::vector<std::string> tokens = ByteAlphabet();
  tokens.insert(tokens.end(), {"th", "<|endoftext|>", "<|im_end|>"});
  std::vector<int32_t> types(tokens.size(), TokenizerSpec::kNormal);
  types[257] = types[258] = TokenizerSpec::kControl;
  writer.SetString("tokenizer.ggml.model", "gpt2");
  writer.SetString("tokenizer.ggml.pre", "smollm");
  writer.SetStrings("tokenizer.ggml.tokens", tokens);
  writer.SetInts("tokenizer.ggml.token_type", types);
  writer.SetStrings("tokenizer.ggml.merges", {"t h"});
  writer.SetU32("tokenizer.ggml.bos_token_id", 257);
  writer.SetU32("tokenizer.ggml.eos_token_id", 258);
}

void AddExperts(GgufWriter& writer, const TinyGgufOptions& o, const std::string& ffn) {
  writer.AddFloats(ffn + "gate_inp.weight", {o.experts, o.hidden});
  for (int e = 0; e < o.experts && o.split_experts; ++e) {
    const std::string suffix = std::string(".").append(std::to_string(e)) + ".weight";
    writer.AddFloats(ffn + "gate" + suffix, {o.expert_ffn, o.hidden});
    writer.AddFloats(ffn + "up" + suffix, {o.expert_ffn, o.hidden});
    writer.AddFloats(ffn + "down" + suffix, {o.hidden, o.expert_ffn});
  }
  if (!o.split_experts) {
    writer.AddFloats(ffn + "gate_exps.weight", {o.experts, o.expert_ffn, o.hidden});
    writer.AddFloats(ffn + "up_exps.weight", {o.experts, o.expert_ffn, o.hidden});
    writer.AddFloats(ffn + "down_exps.weight", {o.experts, o.hidden, o.expert_ffn});
  }
  if (o.shared_ffn == 0) return;
  writer.AddFloats(ffn + "gate_inp_shexp.weight", {o.hidden});
  writer.AddFloats(ffn + "gate_shexp.weight", {o.shared_ffn, o.hidden});
  writer.AddFloats(ffn + "up_shexp.weight", {o.shared_ffn, o.hidden});
  writer.AddFloats(ffn + "down_shexp.weight", {o.hidden, o.shared_ffn});
}

void AddLayer(GgufWriter& writer, const TinyGgufOptions& o, int layer) {
  const std::string blk = "blk." + std::to_string(layer) + ".";
  const int64_t q = int64_t{o.heads} * o.head_dim;
  const int64_t kv = int64_t{o.kv_heads} * o.head_dim;
  writer.AddFloats(blk + "attn_norm.weight", {o.hidden});
  writer.AddFloats(blk + "attn_q.weight", {q, o.hidden});
  writer.AddFloats(blk + "attn_k.weight", {kv, o.hidden});
  writer.AddFloats(blk + "attn_v.weight", {kv, o.hidden});
  writer.AddFloats(blk + "attn_output.weight", {o.hidden, q});
  writer.AddFloats(blk + "ffn_norm.weight", {o.hidden});
  if (o.experts > 0) {
    AddExperts(writer, o, blk + "ffn_");
  } else {
    writer.AddFloats(blk + "ffn_gate.weight", {o.ffn, o.hidden});
    writer.AddFloats(blk + "ffn_up.weight", {o.ffn, o.hidden});
    writer.AddFloats(blk + "ffn_down.weight", {o.hidden, o.ffn});
  }
  if (o.architecture == "qwen2" || o.architecture == "qwen2moe") {
    writer.AddFloats(blk + "attn_q.bias", {q});
    writer.AddFloats(blk + "attn_k.bias", {kv});
    writer.AddFloats(blk + "attn_v.bias", {kv});
  }
  const bool head_norms = o.architecture.starts_with("qwen3") || o.architecture == "gemma3";
  if (head_norms || o.architecture == "olmoe") {
    writer.AddFloats(blk + "attn_q_norm.weight", {head_norms ? o.head_dim : q});
    writer.AddFloats(blk + "attn_k_norm.weight", {head_norms ? o.head_dim : kv});
  }
  if (o.architecture == "gemma3") {
    writer.AddFloats(blk + "post_attention_norm.weight", {o.hidden});
    writer.AddFloats(blk + "post_ffw_norm.weight", {o.hidden});
  }
}

}  // namespace

std::vector<std::string> ByteAlphabet() {
  std::vector<std::string> alphabet;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
                           (byte >= 0xAE && byte <= 0xFF);
    alphabet.push_back(Utf8(printable ? byte : next++));
  }
  return alphabet;
}

std::string GgufString(std::string_view text) {
  return Bytes<uint64_t>(text.size()) + std::string(text);
}

void GgufWriter::SetRaw(std::string_view key, uint32_t type, std::string bytes) {
  for (KeyValue& entry : metadata_) {
    if (entry.key != key) continue;
    entry.type = type;
    entry.bytes = std::move(bytes);
    return;
  }
  metadata_.push_back({std::string(key), type, std::move(bytes)});
}
void GgufWriter::SetU32(std::string_view key, uint32_t value) {
  SetRaw(key, Number(GgufType::kUint32), Bytes(value));
}
void GgufWriter::SetI32(std::string_view key, int32_t value) {
  SetRaw(key, Number(GgufType::kInt32), Bytes(value));
}
void GgufWriter::SetU64(std::string_view key, uint64_t value) {
  SetRaw(key, Number(GgufType::kUint64), Bytes(value));
}
void GgufWriter::SetF32(std::string_view key, float value) {
  SetRaw(key, Number(GgufType::kFloat32), Bytes(value));
}
void GgufWriter::SetBool(std::string_view key, bool value) {
  SetRaw(key, Number(GgufType::kBool), Bytes<uint8_t>(value ? 1 : 0));
}
void GgufWriter::SetString(std::string_view key, std::string_view value) {
  SetRaw(key, Number(GgufType::kString), GgufString(value));
}
void GgufWriter::SetArrayRaw(std::string_view key, uint32_t element_type, uint64_t count,
                             std::string bytes) {
  SetRaw(key, Number(GgufType::kArray), Bytes(element_type) + Bytes(count) + std::move(bytes));
}
void GgufWriter::SetStrings(std::string_view key, const std::vector<std::string>& values) {
  std::string bytes;
  for (const std::string& value : values) bytes += GgufString(value);
  SetArrayRaw(key, Number(GgufType::kString), values.size(), std::move(bytes));
}
void GgufWriter::SetFloats(std::string_view key, const std::vector<float>& values) {
  SetArrayRaw(key, Number(GgufType::kFloat32), values.size(), ArrayBytes(values));
}
void GgufWriter::SetInts(std::string_view key, const std::vector<int32_t>& values) {
  SetArrayRaw(key, Number(GgufType::kInt32), values.size(), ArrayBytes(values));
}
void GgufWriter::Remove(std::string_view key) {
  std::erase_if(metadata_, [&](const KeyValue& entry) { return entry.key == key; });
}
void GgufWriter::AddDuplicate(std::string_view key, uint32_t value) {
  metadata_.push_back({std::string(key), Number(GgufType::kUint32), Bytes(value)});
}

void GgufWriter::AddTensor(std::string_view name, std::vector<uint64_t> dims, uint32_t type,
                           std::string data) {
  TensorEntry entry;
  entry.name = std::string(name);
  entry.dims = std::move(dims);
  entry.type = type;
  entry.data = std::move(data);
  tensors_.push_back(std::move(entry));
}

void GgufWriter::AddFloats(std::string_view name, const std::vector<int64_t>& shape) {
  int64_t size = 1;
  for (const int64_t dim : shape) size *= dim;
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) {
    random_ = random_ * 1664525u + 1013904223u;  // the generator of Numerical Recipes
    value = (static_cast<float>(random_ >> 8) / 16777216.0f - 0.5f) * 0.2f;
  }
  AddTensor(name, {shape.rbegin(), shape.rend()}, 0, ArrayBytes(values));
}

GgufWriter::TensorEntry& GgufWriter::Tensor(std::string_view name) {
  const auto found = std::find_if(tensors_.begin(), tensors_.end(),
                                  [&](const TensorEntry& t) { return t.name == name; });
  assert(found != tensors_.end());
  return *found;
}

void GgufWriter::RemoveTensor(std::string_view name) {
  std::erase_if(tensors_, [&](const TensorEntry& t) { return t.name == name; });
}

std::string GgufWriter::Build() const {
  std::string file =
      magic + Bytes(version) +
      Bytes(static_cast<uint64_t>(static_cast<int64_t>(tensors_.size()) + extra_tensors)) +
      Bytes(static_cast<uint64_t>(static_cast<int64_t>(metadata_.size()) + extra_metadata));
  for (const KeyValue& entry : metadata_) {
    file += GgufString(entry.key) + Bytes(entry.type) + entry.bytes;
  }
  uint64_t offset = 0;
  const auto padding = [&](uint64_t size) { return (alignment - size % alignment) % alignment; };
  for (const TensorEntry& tensor : tensors_) {
    file += GgufString(tensor.name);
    file += Bytes(static_cast<uint32_t>(tensor.stated_num_dims >= 0
                                            ? tensor.stated_num_dims
                                            : static_cast<int64_t>(tensor.dims.size())));
    for (const uint64_t dim : tensor.dims) file += Bytes(dim);
    file += Bytes(tensor.type) + Bytes(tensor.has_stated_offset ? tensor.stated_offset : offset);
    offset += tensor.data.size() + padding(tensor.data.size());
  }
  file.append(padding(file.size()), '\0');
  for (const TensorEntry& tensor : tensors_) {
    file += tensor.data;
    file.append(padding(tensor.data.size()), '\0');
  }
  return file;
}

GgufWriter MakeTinyGguf(const TinyGgufOptions& o) {
  GgufWriter writer;
  const std::string a = o.architecture + ".";
  writer.SetString("general.architecture", o.architecture);
  writer.SetString("general.name", "tiny");
  writer.SetU32(a + "block_count", o.layers);
  writer.SetU32(a + "context_length", 512);
  writer.SetU32(a + "embedding_length", o.hidden);
  writer.SetU32(a + "feed_forward_length", o.ffn);
  writer.SetU32(a + "attention.head_count", o.heads);
  writer.SetU32(a + "attention.head_count_kv", o.kv_heads);
  writer.SetU32(a + "attention.key_length", o.head_dim);
  writer.SetU32(a + "attention.value_length", o.head_dim);
  writer.SetF32(a + "attention.layer_norm_rms_epsilon", 1e-5f);
  writer.SetF32(a + "rope.freq_base", 10000.0f);
  if (o.architecture == "gemma3") writer.SetU32(a + "attention.sliding_window", 64);
  if (o.experts > 0) {
    writer.SetU32(a + "expert_count", o.experts);
    writer.SetU32(a + "expert_used_count", 2);
    writer.SetU32(a + "expert_feed_forward_length", o.expert_ffn);
    if (o.shared_ffn > 0) writer.SetU32(a + "expert_shared_feed_forward_length", o.shared_ffn);
  }
  AddTokenizer(writer);
  writer.AddFloats("token_embd.weight", {259, o.hidden});
  for (int layer = 0; layer < o.layers; ++layer) AddLayer(writer, o, layer);
  writer.AddFloats("output_norm.weight", {o.hidden});
  if (!o.tied) writer.AddFloats("output.weight", {259, o.hidden});
  return writer;
}

}  // namespace pregate
