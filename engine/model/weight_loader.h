// Brings tensors of a model file into device memory, in the form that the kernels stream.
#ifndef PREGATE_ENGINE_MODEL_WEIGHT_LOADER_H_
#define PREGATE_ENGINE_MODEL_WEIGHT_LOADER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/model/expert_store.h"
#include "engine/model/linear.h"
#include "engine/model/model_file.h"
#include "kernels/device.h"
#include "kernels/kernels.h"
#include "kernels/quant/tile_layout.h"

namespace pregate {

// Whether a type of a file is that of floats, not of 8 bits.
bool IsPlain(DType dtype);

// What a loader has brought in.
struct LoadedMemory {
  std::vector<DeviceBuffer> owned;  // vectors, in float, and the packed matrices
  int64_t bytes = 0;                // that steps read: tables, of which they read rows, not counted
  int64_t parameters = 0;
  std::unique_ptr<ExpertStore> experts;  // null: everything stays in memory
};

// Takes tensors one by one, then packs the matrices among them. After the first failure every call
// gives nothing and `status` says why: FAILED_PRECONDITION names a missing or misshapen tensor;
// UNIMPLEMENTED a tensor whose type `kernels` cannot multiply, or whose rows `quantization` cannot
// cut into blocks; INVALID_ARGUMENT one that is quantised otherwise; RESOURCE_EXHAUSTED: no room on
// the device.
class WeightLoader {
 public:
  // `activations`: the input of every Linear that can multiply integers. `quantization`: what
  // matrices of floats become on the way, but for gates. All must outlive this.
  WeightLoader(const ModelFile& file, Device* device, const Kernels& kernels, DType activations,
               std::optional<DType> quantization = std::nullopt)
      : file_(file),
        device_(device),
        kernels_(kernels),
        activations_(activations),
        quantization_(quantization) {}

  // What matrices of this type are kept as.
  DType KeptAs(DType source) const;

  // A vector of `size` elements as floats in device memory.
  ConstTensor Vector(const std::string& name, int64_t size);
  ConstTensor OptionalVector(const std::string& name, int64_t size);

  // `name`.weight [out, in] and, where the file has it, `name`.bias. Data of matrices follows with
  // Pack: where `linear` or `packed` lies must not change until then.
  void Matrix(const std::string& name, int64_t out, int64_t in, Linear* linear);

  // As Matrix, for one whose input stays float whatever its type: a gate, whose choice should not
  // change with the format of activations.
  void Gate(const std::string& name, int64_t out, int64_t in, Linear* linear);
  void OptionalGate(const std::string& name, int64_t out, int64_t in, Linear* linear);

  // `name`.weight [rows, cols] alone; returns the bytes that it takes, which are not counted.
  int64_t Table(const std::string& name, int64_t rows, int64_t cols, PackedWeight* packed);

  // A matrix that no tensor is: `write` is called by Pack with memory for its rows, densely packed.
  // Its parameters are not counted. `by_tiles`: see Kernels::pack.
  void Built(DType dtype, int64_t out, int64_t in, bool by_tiles, Linear* linear,
             std::function<void(char* rows)> write);

  // A matrix of tiles that units share, at an offset from one address for all of them: what is
  // there are the tiles of units that are. `out` or `in` is 32 times the tiles, as BuiltTiles has
  // it.
  struct TiledMatrix {
    DType dtype = DType::kF32;
    bool columns = false;  // tiles are columns, else rows
    int64_t width = 0;     // the other dimension
    int64_t tiles = 0;
    TileLayout layout;
    int64_t offset = 0;

    int64_t bytes() const { return layout.groups * tiles * layout.part_bytes; }
    int64_t OffsetOf(int64_t tile, int64_t group) const {
      return offset + (group * tiles + tile) * layout.part_bytes;
    }
  };
  // How tiles of such a matrix lie; no groups: this table or device cannot have them apart.
  TileLayout LayoutOf(DType dtype, bool columns, int64_t width) const;
  void Tiled(const TiledMatrix& matrix, Linear* linear);

  // `count` tiles of such a matrix from `first` on, of the open unit, which `write` gives as if
  // they were a matrix. The first of a unit's begins at a multiple of DirectFile::kAlignment.
  void BuiltTiles(const TiledMatrix& matrix, int64_t first, int64_t count,
                  std::function<void(char* rows)> write);

  // Matrices from here on are what a unit of expert weights has in `layer`; -1: of no unit.
  void SetUnit(int32_t unit, int32_t layer);

  // Brings every matrix into the kernels' form, into one piece of memory; units that do not all fit
  // into a store of their own. The file's memory is given back on the way, so that the two forms
  // are never there together. `progress`, if set, is called with the share of the bytes that is
  // packed.
  void Pack(const ExpertMemory& experts, const std::function<void(double)>& progress);

  const absl::Status& status() const { return status_; }
  LoadedMemory& memory() { return memory_; }

 private:
  struct Unpacked {
    ConstTensor source;  // its shape alone, where the matrix is built
    std::function<void(char* rows)> write;
    PackedWeight* packed;
    int32_t unit = -1, layer = -1;
    int64_t offset = 0;                       // in the packed memory, or in the unit's piece
    std::vector<ExpertStore::Run> runs = {};  // of tiles of units: where their groups go instead
  };

  ConstTensor Require(const std::string& name, int64_t rows, int64_t cols);
  void Refuse(const std::string& name, DType dtype);
  // As Table, as it is in the file.
  int64_t PlainTable(const std::string& name, int64_t rows, int64_t cols, PackedWeight* packed);
  // As Table, of a tensor of floats that are quantised.
  int64_t QuantizedTable(const std::string& name, ConstTensor source, PackedWeight* packed);
  // As Table, of a tensor of kF8E4M3 and its scales.
  int64_t F8Table(const std::string& name, ConstTensor elements, PackedWeight* packed);
  int64_t Place(Unpacked matrix);
  int64_t PlaceBytes(const PackedWeight& weight) const;  // with what aligns the next one
  void MakeStore(const ExpertMemory& experts);
  void ChooseInput(Linear* linear) const;
  void PackOne(const Unpacked& matrix, void* packed) const;
  void PackTiles(const Unpacked& matrix, char* base) const;

  const ModelFile& file_;
  Device* device_;
  const Kernels& kernels_;
  const DType activations_;
  const std::optional<DType> quantization_;
  LoadedMemory memory_;
  std::vector<Unpacked> matrices_;
  int32_t unit_ = -1, layer_ = -1;                // of what is taken now
  std::vector<std::vector<int64_t>> unit_sizes_;  // [units][layers] bytes
  int64_t unit_bytes_ = 0;
  // Where units are tiles of the same matrices: the matrices, their offsets, and what units have.
  std::vector<std::pair<PackedWeight*, int64_t>> tiled_;
  std::deque<PackedWeight> tiles_;
  ExpertStore::Runs unit_runs_;
  absl::Status status_;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_MODEL_WEIGHT_LOADER_H_
