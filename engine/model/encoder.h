// Encoder: texts to vectors or scores, with a model of the BERT kind.
#ifndef PREGATE_ENGINE_MODEL_ENCODER_H_
#define PREGATE_ENGINE_MODEL_ENCODER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_file.h"
#include "engine/model/pooling.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace pregate {

// Texts that are read in one step, one behind the other: text s owns rows [row_start[s],
// row_start[s+1]). A row's position counts from its text's start.
struct EncoderBatch {
  std::vector<int32_t> token_ids;    // [rows]
  std::vector<int32_t> token_types;  // [rows] 0, or 1 in the second text of a pair
  std::vector<int32_t> row_start = {0};
  std::vector<Pooling> pooling;  // [texts], none kNone

  int32_t rows() const { return row_start.back(); }
  int32_t texts() const { return static_cast<int32_t>(pooling.size()); }
  // `second_begin`: from where on the ids are of the second text of a pair; 0: there is none.
  void Add(const std::vector<int32_t>& ids, int32_t second_begin, Pooling how);
};

class Encoder {
 public:
  // How much of the arithmetic is in integers.
  enum class Precision : uint8_t {
    kFile,  // as the file has its weights: of floats none
    kQ13,   // matrices of floats as integers of 13 bits: a rounding that no answer shows
    kInt8,  // as bytes, and their input as well: fast, less exact
  };
  struct Options {
    int32_t max_rows = 512;  // of a batch, and of the longest text
    int32_t max_texts = 64;  // of a batch
    Precision precision = Precision::kQ13;
    std::function<void(double)> progress;  // share of the weights that is loaded; may be empty
  };

  // Takes every weight it needs from `file`, an encoder whose configuration must outlive it. Errors
  // as Transformer::Create.
  static absl::StatusOr<std::unique_ptr<Encoder>> Create(const ModelFile& file, Device* device,
                                                         const Kernels* kernels,
                                                         const Options& options);
  virtual ~Encoder() = default;

  // The texts' vectors, [texts, H], or scores, [texts, 1]; kF32 in device memory, valid until the
  // next call. A text's numbers do not depend on the others.
  virtual Tensor Forward(const EncoderBatch& batch) = 0;

  // Bytes of weights that a step reads, the tables' rows not counted.
  virtual int64_t weight_bytes() const = 0;
  virtual int64_t num_parameters() const = 0;
  // Weights of matrices that every row meets.
  virtual int64_t row_parameters() const = 0;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_ENCODER_H_
