#include "engine/model/weight_loader.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

bool IsPlain(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

// Element `i` of a vector of a plain type.
float Element(ConstTensor vector, int64_t i) {
  if (vector.dtype == DType::kF16) return HalfToFloat(vector.Row<uint16_t>(0)[i]);
  if (vector.dtype == DType::kBF16) return BFloat16ToFloat(vector.Row<uint16_t>(0)[i]);
  return vector.Row<float>(0)[i];
}

// Packed matrices start at multiples of this many bytes.
constexpr int64_t kAlignment = 64;

}  // namespace

ConstTensor WeightLoader::Vector(const std::string& name, int64_t size) {
  const ConstTensor source = Require(name, 1, size);
  if (!source) return {};
  if (!IsPlain(source.dtype)) {
    Refuse(name, source.dtype);
    return {};
  }
  std::vector<float> values(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i) values[static_cast<size_t>(i)] = Element(source, i);
  absl::StatusOr<DeviceBuffer> buffer = device_->Allocate(values.size() * sizeof(float));
  if (!buffer.ok()) {
    status_ = buffer.status();
    return {};
  }
  device_->CopyToDevice(buffer->data(), values.data(), buffer->size());
  const ConstTensor view = MakeView(std::as_const(*buffer).data(), DType::kF32, 1, size);
  memory_.bytes += size * static_cast<int64_t>(sizeof(float));
  memory_.owned.push_back(*std::move(buffer));
  return view;
}

ConstTensor WeightLoader::OptionalVector(const std::string& name, int64_t size) {
  return file_.Find(name) ? Vector(name, size) : ConstTensor();
}

void WeightLoader::Matrix(const std::string& name, int64_t out, int64_t in, Linear* linear) {
  memory_.bytes += Table(name, out, in, &linear->weight);
  ChooseInput(linear);
  linear->bias = OptionalVector(name + ".bias", out).Row<float>(0);
}

void WeightLoader::Gate(const std::string& name, int64_t out, int64_t in, Linear* linear) {
  memory_.bytes += Table(name, out, in, &linear->weight);
}

void WeightLoader::OptionalGate(const std::string& name, int64_t out, int64_t in, Linear* linear) {
  if (file_.Find(name + ".weight")) Gate(name, out, in, linear);
}

int64_t WeightLoader::Table(const std::string& name, int64_t rows, int64_t cols,
                            PackedWeight* packed) {
  const ConstTensor source = Require(name + ".weight", rows, cols);
  if (!source) return 0;
  if (kernels_.packed_bytes(source.dtype, rows, cols) == 0) {
    Refuse(name + ".weight", source.dtype);
    return 0;
  }
  return Place({source, nullptr, packed, 0});
}

void WeightLoader::Built(DType dtype, int64_t out, int64_t in, Linear* linear,
                         std::function<void(char* rows)> write) {
  if (!status_.ok()) return;
  const ConstTensor shape = MakeView(static_cast<const void*>(nullptr), dtype, out, in);
  memory_.bytes += Place({shape, std::move(write), &linear->weight, 0});
  ChooseInput(linear);
}

void WeightLoader::Pack(const std::function<void(double)>& progress) {
  if (!status_.ok()) return;
  absl::StatusOr<DeviceBuffer> buffer = device_->Allocate(static_cast<size_t>(packed_bytes_));
  if (!buffer.ok()) {
    status_ = buffer.status();
    return;
  }
  for (const Unpacked& matrix : matrices_) {
    char* const packed = static_cast<char*>(buffer->data()) + matrix.offset;
    PackOne(matrix, packed);
    matrix.packed->data = packed;
    if (progress) {
      progress(static_cast<double>(matrix.offset) / static_cast<double>(packed_bytes_));
    }
  }
  memory_.owned.push_back(*std::move(buffer));
}

ConstTensor WeightLoader::Require(const std::string& name, int64_t rows, int64_t cols) {
  if (!status_.ok()) return {};
  const absl::StatusOr<ConstTensor> tensor = file_.Require(name, rows, cols);
  if (!tensor.ok()) {
    status_ = tensor.status();
    return {};
  }
  memory_.parameters += rows * cols;
  return *tensor;
}

void WeightLoader::Refuse(const std::string& name, DType dtype) {
  status_ = absl::UnimplementedError(
      absl::StrCat(name, ": must have a type that the ", std::string(kernels_.name),
                   " kernels can use here; got ", std::string(GetDTypeInfo(dtype).name)));
}

// Gives the matrix its place in the packed memory; returns the bytes that it takes.
int64_t WeightLoader::Place(Unpacked matrix) {
  const auto& [unused, dtype, rows, cols, stride] = matrix.source;
  const int64_t bytes = kernels_.packed_bytes(dtype, rows, cols);
  *matrix.packed = {nullptr, dtype, rows, cols};
  matrix.offset = packed_bytes_;
  packed_bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  matrices_.push_back(std::move(matrix));
  return bytes;
}

void WeightLoader::ChooseInput(Linear* linear) const {
  const DType wanted = kernels_.activation_dtype[static_cast<size_t>(linear->weight.dtype)];
  if (wanted == DType::kQ16Act && linear->weight.cols % 32 == 0) linear->input = activations_;
}

void WeightLoader::PackOne(const Unpacked& matrix, void* packed) const {
  if (!matrix.write) {
    kernels_.pack(*device_, matrix.source, packed);
    file_.Release(matrix.source);
    return;
  }
  const auto& [unused, dtype, rows, cols, stride] = matrix.source;
  const auto bytes = static_cast<size_t>(rows * stride);
  const auto built = std::make_unique_for_overwrite<char[]>(bytes);
  matrix.write(built.get());
  kernels_.pack(*device_, MakeView(static_cast<const void*>(built.get()), dtype, rows, cols),
                packed);
}

}  // namespace pregate
