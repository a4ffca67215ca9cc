// Tiny models whose weights are a formula, with what transformers says of them: the goldens of
// tests/tools/make_parity_goldens.py, written as model files of either format.
#ifndef PREGATE_TESTS_MODEL_TINY_CASE_H_
#define PREGATE_TESTS_MODEL_TINY_CASE_H_

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace pregate {

struct TinyGoldens {
  // {"name", "dtype", "config": of Hugging Face, "tensors": [[name, shape], ...], "greedy"}. A star
  // in a name stands for the numbers of experts, as many as the shape's first dimension.
  nlohmann::json cases;
  std::vector<int32_t> ids;
  size_t stride = 0;          // logits are kept for positions stride - 1, 2 * stride - 1, ...
  std::vector<float> logits;  // [cases][ids / stride][vocab]

  size_t Vocab(size_t index) const { return cases[index]["config"]["vocab_size"]; }
  const float* Logits(size_t index) const {
    return &logits[index * (ids.size() / stride) * Vocab(index)];
  }
  std::string Name(size_t index) const { return cases[index]["name"]; }
};

// tests/testdata/parity/`name`.{json,bin}.
TinyGoldens ReadTinyGoldens(const std::string& name);

// A model in a temporary place, gone with this.
class TinyModel {
 public:
  enum class Format { kSafetensors, kGguf };
  TinyModel(const nlohmann::json& test_case, Format format);
  ~TinyModel() { std::filesystem::remove_all(path_); }
  TinyModel(const TinyModel&) = delete;
  TinyModel& operator=(const TinyModel&) = delete;

  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace pregate

#endif  // PREGATE_TESTS_MODEL_TINY_CASE_H_
