// Read-ME checkpoints of random weights, in all their forms, as folders. The formulas are those of
// tests/tools/make_read_me_goldens.py.
#ifndef PREGATE_TESTS_MODEL_READ_ME_FOLDER_H_
#define PREGATE_TESTS_MODEL_READ_ME_FOLDER_H_

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/tensor.h"

namespace pregate {

// A Hugging Face folder in the making, removed with its owner.
class ReadMeFolder {
 public:
  explicit ReadMeFolder(const std::string& name);
  ~ReadMeFolder();
  ReadMeFolder(const ReadMeFolder&) = delete;

  struct Tensor {
    std::string name;
    std::string type;  // "F32", "U8", ...
    std::vector<int64_t> shape;
    std::string data;
  };
  nlohmann::json config;
  std::vector<Tensor> tensors;

  void AddFloats(const std::string& name, const std::vector<int64_t>& shape,
                 const std::vector<float>& values, DType dtype = DType::kF32);
  // Values by the formula of RandomTensor for `seed` + the name.
  void AddRandom(const std::string& name, const std::vector<int64_t>& shape,
                 const std::string& seed = "");
  Tensor& Find(const std::string& name);

  // Writes all of it; returns the folder's path.
  std::string Write() const;

 private:
  std::filesystem::path path_;
};

// Sizes of the experts that the golden logits are of.
struct ReadMeSizes {
  int64_t layers = 4, hidden = 64, ffn = 384, experts = 4;
  // Odd, and another in each layer; the last expert is narrower by one.
  int64_t Width(int64_t layer, int64_t expert) const {
    return (layer % 2 != 0 ? 131 : 127) - (expert == experts - 1 ? 1 : 0);
  }
};

// The neurons of an expert, ascending.
std::vector<int64_t> ExpertNeurons(const ReadMeSizes& sizes, int64_t layer, int64_t expert);

enum class ReadMeForm { kMasked, kFused, kResidual, kUntied };
// Adds the experts of all layers in one of the forms. All but kUntied are one model.
void AddExperts(const ReadMeSizes& sizes, ReadMeForm form, ReadMeFolder& folder,
                DType dtype = DType::kF32);

// Masks [experts, ceil(ffn / 8)] from each expert's neurons.
std::string PackMasks(const std::vector<std::vector<int64_t>>& neurons, int64_t ffn);

// `count` token ids below `vocab_size`.
std::vector<int32_t> RandomIds(const std::string& name, size_t count, int32_t vocab_size);

}  // namespace pregate

#endif  // PREGATE_TESTS_MODEL_READ_ME_FOLDER_H_
