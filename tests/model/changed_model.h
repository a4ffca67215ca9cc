// A model with its matrices in another type: what is quantised at load, as if the file had been so;
// or a quantised file, as floats.
#ifndef PREGATE_TESTS_MODEL_CHANGED_MODEL_H_
#define PREGATE_TESTS_MODEL_CHANGED_MODEL_H_

#include <deque>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "engine/model/model_file.h"
#include "kernels/quant/dequantize.h"
#include "kernels/quant/quantize_weights.h"

namespace pregate {

class ChangedModel : public ModelFile {
 public:
  // `file` must outlive this. Vectors, and the gates of mixtures, stay as they are.
  ChangedModel(const ModelFile& file, DType dtype) : file_(file), tensors_(file.tensors()) {
    for (TensorInfo& tensor : tensors_) {
      if (tensor.shape.size() != 2 || absl::StrContains(tensor.name, "gate_inp")) continue;
      const int64_t rows = tensor.shape[0], cols = tensor.shape[1];
      const int64_t from = RowBytes(tensor.dtype, cols), to = RowBytes(dtype, cols);
      std::vector<char>& data = data_.emplace_back(static_cast<size_t>(rows * to));
      std::vector<float> row(static_cast<size_t>(cols));
      for (int64_t r = 0; r < rows; ++r) {
        DequantizeRow(tensor.dtype, static_cast<const char*>(tensor.data) + r * from, cols,
                      row.data());
        QuantizeRow(dtype, row.data(), cols, &data[static_cast<size_t>(r * to)]);
      }
      tensor.dtype = dtype;
      tensor.data = data.data();
      tensor.stride = 0;
      tensor.bytes = rows * to;
    }
  }

  const ModelConfig& config() const override { return file_.config(); }
  const TokenizerSpec& tokenizer() const override { return file_.tokenizer(); }
  const std::string& chat_template() const override { return file_.chat_template(); }
  std::string_view format() const override { return file_.format(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const NeuronOwners& neuron_owners() const override { return file_.neuron_owners(); }
  void Release(ConstTensor) const override {}

 private:
  const ModelFile& file_;
  std::deque<std::vector<char>> data_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace pregate

#endif  // PREGATE_TESTS_MODEL_CHANGED_MODEL_H_
