// A GGUF file of any bytes: a typed error, or a model whose tensors and tokenizer can be used.
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <utility>

#include "engine/model/model_contents.h"
#include "engine/tokenizer.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/model/gguf_writer.h"
#include "tests/model/tiny_case.h"

namespace pregate {
namespace {

// An encoder as llama.cpp's converter writes them.
std::string EncoderFile() {
  const auto goldens = nlohmann::json::parse(std::ifstream("tests/testdata/parity/encoders.json"));
  const TinyModel model(goldens["cases"][1], TinyModel::Format::kGguf);
  std::ifstream file(model.path(), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  std::vector<std::string> seeds;
  for (const std::string architecture :
       {"llama", "qwen2", "qwen3", "gemma3", "qwen2moe", "olmoe"}) {
    TinyGgufOptions options;
    options.architecture = architecture;
    options.layers = 1;
    options.hidden = options.ffn = 16;
    options.heads = options.kv_heads = 1;
    options.tied = seeds.size() % 2 == 0;
    if (architecture.ends_with("moe")) options.experts = 3;
    if (architecture == "qwen2moe") options.shared_ffn = 8;
    options.expert_ffn = 16;
    seeds.push_back(MakeTinyGguf(options).Build());
  }
  seeds.push_back(EncoderFile());
  return seeds;
}

}  // namespace pregate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pregate;  // NOLINT: the whole body speaks of it
  auto model = ReadGgufModel({reinterpret_cast<const char*>(data), size});
  ExpectTyped(model.status());
  if (!model.ok()) return 0;
  int sum = 0;
  for (const TensorInfo& tensor : model->tensors) {  // every byte lies in the input
    const auto* bytes = static_cast<const uint8_t*>(tensor.data);
    if (bytes < data || bytes + tensor.bytes > data + size) std::abort();
    sum += bytes[0] + bytes[tensor.bytes - 1];
  }
  const auto tokenizer = Tokenizer::Create(std::move(model->tokenizer));
  if (tokenizer.ok()) sum += static_cast<int>((*tokenizer)->Encode("the text", {}).size());
  return sum < 0 ? 1 : 0;
}
