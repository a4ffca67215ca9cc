// Writes GGUF files: sound ones for tiny models, and ones that lie for tests of the reader.
#ifndef PREGATE_TESTS_MODEL_GGUF_WRITER_H_
#define PREGATE_TESTS_MODEL_GGUF_WRITER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/gguf.h"
#include "engine/tokenizer.h"

namespace pregate {

// The bytes of one number, little-endian.
template <typename T>
std::string Bytes(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(T));
}
// A GGUF string: its length in 64 bits, then its characters.
std::string GgufString(std::string_view text);

// The spelling of each byte in byte-level BPE (GPT-2): printable bytes stand for themselves, the
// others for U+0100 onwards.
std::vector<std::string> ByteAlphabet();

// A file in the making. Keys and tensors are written in the order in which they were first set.
class GgufWriter {
 public:
  // Header numbers, for lying about them.
  std::string magic = "GGUF";
  uint32_t version = 3;
  int64_t extra_tensors = 0;   // added to the stated number of tensors
  int64_t extra_metadata = 0;  // added to the stated number of keys
  uint64_t alignment = 32;     // used for layout; stated only when set as metadata

  // Sets or replaces a value. `bytes` is the encoded value.
  void SetRaw(std::string_view key, uint32_t type, std::string bytes);
  void SetU32(std::string_view key, uint32_t value);
  void SetI32(std::string_view key, int32_t value);
  void SetU64(std::string_view key, uint64_t value);
  void SetF32(std::string_view key, float value);
  void SetBool(std::string_view key, bool value);
  void SetString(std::string_view key, std::string_view value);
  void SetStrings(std::string_view key, const std::vector<std::string>& values);
  void SetFloats(std::string_view key, const std::vector<float>& values);
  void SetInts(std::string_view key, const std::vector<int32_t>& values);
  // An array whose header says `count` elements of `element_type`, whatever `bytes` holds.
  void SetArrayRaw(std::string_view key, uint32_t element_type, uint64_t count, std::string bytes);
  void Remove(std::string_view key);
  // A second value under a key that is there already.
  void AddDuplicate(std::string_view key, uint32_t value);

  struct TensorEntry {
    std::string name;
    std::vector<uint64_t> dims;  // innermost first, as the file has them
    uint32_t type = 0;           // ggml_type
    std::string data;
    // Written instead of the true numbers when not negative.
    int64_t stated_num_dims = -1;
    bool has_stated_offset = false;
    uint64_t stated_offset = 0;
  };
  void AddTensor(std::string_view name, std::vector<uint64_t> dims, uint32_t type,
                 std::string data);
  // An F32 tensor of small pseudo-random values; `shape` outermost first.
  void AddFloats(std::string_view name, const std::vector<int64_t>& shape);
  TensorEntry& Tensor(std::string_view name);
  void RemoveTensor(std::string_view name);

  std::string Build() const;

 private:
  struct KeyValue {
    std::string key;
    uint32_t type;
    std::string bytes;
  };
  std::vector<KeyValue> metadata_;
  std::vector<TensorEntry> tensors_;
  uint32_t random_ = 1;
};

// The shape of a tiny random model: everything that the architectures differ in is in the file.
struct TinyGgufOptions {
  std::string architecture = "llama";  // or "qwen2", "qwen3", "gemma3", "qwen2moe", ...
  int32_t layers = 2;
  int32_t hidden = 64;
  int32_t ffn = 96;
  int32_t heads = 4;
  int32_t kv_heads = 2;
  int32_t head_dim = 16;
  bool tied = true;
  int32_t experts = 0;  // not 0: every layer is a mixture of so many, two for each token
  int32_t expert_ffn = 32;
  int32_t shared_ffn = 0;
  bool split_experts = false;  // a tensor for each expert, as the first converters wrote them
};
// A complete model with a byte-level BPE tokenizer of 256 bytes, one merge and two control tokens.
GgufWriter MakeTinyGguf(const TinyGgufOptions& options);

}  // namespace pregate

#endif  // PREGATE_TESTS_MODEL_GGUF_WRITER_H_
