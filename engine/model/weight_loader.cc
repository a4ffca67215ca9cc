#include "engine/model/weight_loader.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/device_expert_store.h"
#include "engine/model/f8_weights.h"
#include "kernels/quant/dequantize.h"
#include "kernels/quant/quantize_weights.h"

namespace pregate {
namespace {

// Element `i` of a vector of a plain type.
float Element(ConstTensor vector, int64_t i) {
  if (vector.dtype == DType::kF16) return HalfToFloat(vector.Row<uint16_t>(0)[i]);
  if (vector.dtype == DType::kBF16) return BFloat16ToFloat(vector.Row<uint16_t>(0)[i]);
  return vector.Row<float>(0)[i];
}

// Packed matrices start at multiples of this many bytes.
constexpr int64_t kAlignment = 64;

absl::StatusOr<std::unique_ptr<ExpertStore>> StoreFor(
    const std::vector<std::vector<int64_t>>& piece_bytes, const ExpertStore::Runs& runs,
    const ExpertMemory& experts, Device* device) {
  const auto make_file = [&] { return DirectFile::Create(experts.folder); };
  if (!device->host_memory()) {
    return MakeDeviceExpertStore(piece_bytes, experts, make_file, device);
  }
  absl::StatusOr<std::unique_ptr<DirectFile>> file = make_file();
  if (!file.ok()) return file.status();
  return runs.empty() ? ExpertStore::Create(piece_bytes, *std::move(file))
                      : ExpertStore::CreateScattered(runs, *std::move(file));
}

}  // namespace

bool IsPlain(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

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
  memory_.bytes += PlainTable(name, out, in, &linear->weight);
}

void WeightLoader::OptionalGate(const std::string& name, int64_t out, int64_t in, Linear* linear) {
  if (file_.Find(name + ".weight")) Gate(name, out, in, linear);
}

DType WeightLoader::KeptAs(DType source) const {
  return quantization_ && IsPlain(source) ? *quantization_ : source;
}

int64_t WeightLoader::Table(const std::string& name, int64_t rows, int64_t cols,
                            PackedWeight* packed) {
  const ConstTensor source = file_.Find(name + ".weight");
  if (!source || !quantization_ || source.dtype == *quantization_) {
    return PlainTable(name, rows, cols, packed);
  }
  if (!Require(name + ".weight", rows, cols)) return 0;
  return QuantizedTable(name + ".weight", source, packed);
}

int64_t WeightLoader::QuantizedTable(const std::string& name, ConstTensor source,
                                     PackedWeight* packed) {
  const DType dtype = KeptAs(source.dtype);
  const DTypeInfo& info = GetDTypeInfo(*quantization_);
  if (dtype != *quantization_) {
    status_ = absl::InvalidArgumentError(absl::StrCat(
        "quantization: must be none, or what the file is quantised to; got ",
        std::string(info.name), " for ", name, " of ", std::string(GetDTypeInfo(dtype).name)));
    return 0;
  }
  if (source.cols % info.block_elements != 0) {
    status_ = absl::UnimplementedError(
        absl::StrCat("quantization: rows must be of whole blocks of ", info.block_elements,
                     " elements; ", name, " has rows of ", source.cols));
    return 0;
  }
  const ConstTensor shape =
      MakeView(static_cast<const void*>(nullptr), dtype, source.rows, source.cols);
  if (kernels_.packed_bytes(dtype, source.rows, source.cols) == 0) {
    Refuse(name, dtype);
    return 0;
  }
  const auto write = [this, source, dtype](char* rows) {
    const int64_t bytes = RowBytes(dtype, source.cols);
    device_->ParallelFor(source.rows, 16, [&](int64_t begin, int64_t end) {
      std::vector<float> row(static_cast<size_t>(source.cols));
      for (int64_t r = begin; r < end; ++r) {
        DequantizeRow(source.dtype, source.Row<char>(r), source.cols, row.data());
        QuantizeRow(dtype, row.data(), source.cols, rows + r * bytes);
      }
    });
    file_.Release(source);
  };
  return Place({.source = shape, .write = write, .packed = packed});
}

int64_t WeightLoader::PlainTable(const std::string& name, int64_t rows, int64_t cols,
                                 PackedWeight* packed) {
  const ConstTensor source = Require(name + ".weight", rows, cols);
  if (!source) return 0;
  if (source.dtype == DType::kF8E4M3) return F8Table(name + ".weight", source, packed);
  if (kernels_.packed_bytes(source.dtype, rows, cols) == 0) {
    Refuse(name + ".weight", source.dtype);
    return 0;
  }
  return Place({.source = source, .write = nullptr, .packed = packed});
}

int64_t WeightLoader::F8Table(const std::string& name, ConstTensor elements, PackedWeight* packed) {
  const ConstTensor scales = file_.Find(absl::StrCat(name, std::string(kF8ScaleSuffix)));
  const ConstTensor shape =
      MakeView(static_cast<const void*>(nullptr), DType::kF8Blocks, elements.rows, elements.cols);
  if (!scales || kernels_.packed_bytes(shape.dtype, shape.rows, shape.cols) == 0) {
    Refuse(name, elements.dtype);
    return 0;
  }
  const auto write = [this, elements, scales](char* rows) {
    WriteF8Blocks(elements, scales, *device_, rows);
    file_.Release(elements);
  };
  return Place({.source = shape, .write = write, .packed = packed});
}

void WeightLoader::Built(DType dtype, int64_t out, int64_t in, bool by_tiles, Linear* linear,
                         std::function<void(char* rows)> write) {
  if (!status_.ok()) return;
  const ConstTensor shape = MakeView(static_cast<const void*>(nullptr), dtype, out, in);
  memory_.bytes += Place({.source = shape, .write = std::move(write), .packed = &linear->weight});
  linear->weight.by_tiles = by_tiles;
  ChooseInput(linear);
}

TileLayout WeightLoader::LayoutOf(DType dtype, bool columns, int64_t width) const {
  if (!device_->host_memory()) return {};
  return columns ? LayoutOfColumnTiles(kernels_, dtype, width)
                 : LayoutOfRowTiles(kernels_, dtype, width);
}

void WeightLoader::Tiled(const TiledMatrix& matrix, Linear* linear) {
  const int64_t neurons = 32 * matrix.tiles;
  linear->weight = {nullptr, matrix.dtype, matrix.columns ? matrix.width : neurons,
                    matrix.columns ? neurons : matrix.width, matrix.columns};
  ChooseInput(linear);
  tiled_.emplace_back(&linear->weight, matrix.offset);
}

void WeightLoader::BuiltTiles(const TiledMatrix& matrix, int64_t first, int64_t count,
                              std::function<void(char* rows)> write) {
  if (!status_.ok()) return;
  const int64_t neurons = 32 * count;
  const ConstTensor shape =
      MakeView(static_cast<const void*>(nullptr), matrix.dtype,
               matrix.columns ? matrix.width : neurons, matrix.columns ? neurons : matrix.width);
  PackedWeight& packed = tiles_.emplace_back();
  memory_.bytes += Place({.source = shape, .write = std::move(write), .packed = &packed});
  packed.by_tiles = matrix.columns;
  unit_runs_.resize(unit_sizes_.size());
  auto& layers = unit_runs_[static_cast<size_t>(unit_)];
  layers.resize(std::max(layers.size(), static_cast<size_t>(layer_) + 1));
  for (int64_t group = 0; group < matrix.layout.groups; ++group) {
    const ExpertStore::Run run = {matrix.OffsetOf(first, group), count * matrix.layout.part_bytes};
    matrices_.back().runs.push_back(run);
    layers[static_cast<size_t>(layer_)].push_back(run);
  }
}

void WeightLoader::SetUnit(int32_t unit, int32_t layer) {
  unit_ = unit;
  layer_ = layer;
  if (unit < 0) return;
  if (unit_sizes_.size() <= static_cast<size_t>(unit)) {
    unit_sizes_.resize(static_cast<size_t>(unit) + 1);
  }
  std::vector<int64_t>& layers = unit_sizes_[static_cast<size_t>(unit)];
  if (layers.size() <= static_cast<size_t>(layer)) layers.resize(static_cast<size_t>(layer) + 1);
}

void WeightLoader::Pack(const ExpertMemory& experts, const std::function<void(double)>& progress) {
  if (experts.bytes > 0 && unit_bytes_ > experts.bytes) MakeStore(experts);
  if (!status_.ok()) return;
  const auto stored = [this](const Unpacked& m) { return memory_.experts && m.unit >= 0; };
  int64_t bytes = 0;  // of what stays
  for (Unpacked& matrix : matrices_) {
    if (stored(matrix)) continue;
    matrix.offset = bytes;
    bytes += PlaceBytes(*matrix.packed);
  }
  absl::StatusOr<DeviceBuffer> buffer = device_->Allocate(static_cast<size_t>(bytes));
  if (!buffer.ok()) {
    status_ = buffer.status();
    return;
  }
  const double count = static_cast<double>(matrices_.size());
  for (size_t i = 0; i < matrices_.size() && status_.ok(); ++i) {
    const Unpacked& matrix = matrices_[i];
    void* const base =
        stored(matrix) ? memory_.experts->Address(matrix.unit, matrix.layer) : buffer->data();
    if (stored(matrix) && !matrix.runs.empty()) {
      PackTiles(matrix, static_cast<char*>(base));
    } else {
      char* const packed = static_cast<char*>(base) + matrix.offset;
      PackOne(matrix, packed);
      matrix.packed->data = packed;
    }
    const bool ends_piece = i + 1 == matrices_.size() || matrices_[i + 1].unit != matrix.unit ||
                            matrices_[i + 1].layer != matrix.layer;
    if (stored(matrix) && ends_piece) status_ = memory_.experts->Save(matrix.unit, matrix.layer);
    if (progress) progress(static_cast<double>(i + 1) / count);
  }
  for (const auto& [weight, offset] : tiled_) {
    weight->data = static_cast<char*>(memory_.experts->Address(0, 0)) + offset;
  }
  memory_.owned.push_back(*std::move(buffer));
}

// The places of the units' matrices are offsets in their pieces already, or from where all of them
// begin.
void WeightLoader::MakeStore(const ExpertMemory& experts) {
  if (!status_.ok()) return;
  size_t layers = 0;
  for (const auto& unit : unit_runs_) layers = std::max(layers, unit.size());
  for (auto& unit : unit_runs_) unit.resize(layers);
  absl::StatusOr<std::unique_ptr<ExpertStore>> store =
      StoreFor(unit_sizes_, unit_runs_, experts, device_);
  if (!store.ok()) {
    status_ = store.status();
    return;
  }
  memory_.experts = *std::move(store);
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

// Takes the matrix, into the open unit if there is one; returns the bytes that it takes.
int64_t WeightLoader::Place(Unpacked matrix) {
  const auto& [unused, dtype, rows, cols, stride] = matrix.source;
  *matrix.packed = {nullptr, dtype, rows, cols};
  if (unit_ >= 0) {
    int64_t& size = unit_sizes_[static_cast<size_t>(unit_)][static_cast<size_t>(layer_)];
    matrix.unit = unit_;
    matrix.layer = layer_;
    matrix.offset = size;
    size += PlaceBytes(*matrix.packed);
    unit_bytes_ += PlaceBytes(*matrix.packed);
  }
  matrices_.push_back(std::move(matrix));
  return kernels_.packed_bytes(dtype, rows, cols);
}

int64_t WeightLoader::PlaceBytes(const PackedWeight& weight) const {
  const int64_t bytes = kernels_.packed_bytes(weight.dtype, weight.rows, weight.cols);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

void WeightLoader::ChooseInput(Linear* linear) const {
  const DType wanted = kernels_.activation_dtype[static_cast<size_t>(linear->weight.dtype)];
  if (wanted == DType::kQ16Act && linear->weight.cols % 32 == 0) linear->input = activations_;
}

void WeightLoader::PackTiles(const Unpacked& matrix, char* base) const {
  const PackedWeight& shape = *matrix.packed;
  const auto packed = std::make_unique_for_overwrite<char[]>(
      static_cast<size_t>(kernels_.packed_bytes(shape.dtype, shape.rows, shape.cols)));
  PackOne(matrix, packed.get());
  const char* from = packed.get();
  for (const ExpertStore::Run& run : matrix.runs) {
    std::memcpy(base + run.offset, from, static_cast<size_t>(run.bytes));
    from += run.bytes;
  }
}

void WeightLoader::PackOne(const Unpacked& matrix, void* packed) const {
  if (!matrix.write) {
    kernels_.pack(*device_, matrix.source, false, packed);
    file_.Release(matrix.source);
    return;
  }
  const auto& [unused, dtype, rows, cols, stride] = matrix.source;
  const auto bytes = static_cast<size_t>(rows * stride);
  const auto built = std::make_unique_for_overwrite<char[]>(bytes);
  matrix.write(built.get());
  kernels_.pack(*device_, MakeView(static_cast<const void*>(built.get()), dtype, rows, cols),
                matrix.packed->by_tiles, packed);
}

}  // namespace pregate
