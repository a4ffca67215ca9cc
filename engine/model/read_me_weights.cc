#include "engine/model/read_me_weights.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/neuron_tiles.h"
#include "engine/model/tile_units.h"
#include "kernels/quant/dequantize.h"
#include "kernels/quant/quantize_weights.h"

namespace pregate {
namespace {

constexpr const char* kMatrices[] = {".ffn_gate", ".ffn_up", ".ffn_down"};  // of a layer

// The neurons of a layer as its checkpoint stores them.
std::vector<FfnPart> FindParts(const ModelFile& file, int layer) {
  const auto part = [&](const std::string& name) {
    const auto matrix = [&](const char* kind) {
      return file.Find(absl::StrCat("blk.", layer, kind, name, ".weight"));
    };
    return FfnPart{matrix(kMatrices[0]), matrix(kMatrices[1]), matrix(kMatrices[2]), {}};
  };
  const ReadMeConfig& config = file.config().read_me;
  std::vector<FfnPart> parts;
  if (config.masked) {
    parts.push_back(part(""));
    parts[0].owners = file.neuron_owners()[static_cast<size_t>(layer)];
    return parts;
  }
  // The residual is the first, so that it comes first in memory too.
  if (FfnPart residual = part(".residual"); residual.gate) {
    const uint64_t everyone = ~uint64_t{0} >> (kMaxReadMeExperts - config.num_experts);
    residual.owners.assign(static_cast<size_t>(residual.gate.rows), everyone);
    parts.push_back(std::move(residual));
  }
  for (int32_t e = 0; e < config.num_experts; ++e) {
    FfnPart& expert = parts.emplace_back(part(absl::StrCat(".", e)));
    expert.owners.assign(static_cast<size_t>(expert.gate.rows), uint64_t{1} << e);
  }
  return parts;
}

// What a model with tied experts may take beyond the dense one, of the memory of all its weights.
constexpr double kMoreThanDense = 0.05;

bool HasBlocks(DType dtype) { return GetDTypeInfo(dtype).block_elements > 1; }

// The type that a down projection takes. Its blocks run along the neurons, so a new order of these
// cuts them apart and they are made anew from what the old ones say, with a bit more or in 8. (Of
// SmolLM2-135M in Q4_1 with experts of half the neurons, the perplexity of the routed model becomes
// 1.11 times itself in Q4_1 and 1.02 times in Q5_1; Q8_0 loses nothing and takes an eighth more
// than the dense model.)
DType DownType(DType source) {
  switch (source) {
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ4_K:
      return DType::kQ5_1;
    default:
      return HasBlocks(source) ? DType::kQ8_0 : source;
  }
}

// A matrix's width need not be a multiple of a block.
double Bytes(DType dtype, int64_t elements) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  return static_cast<double>(elements) * info.block_bytes / info.block_elements;
}

// Of a neuron's row and columns.
double NeuronBytes(const FfnPart& part, DType down, const WeightLoader& load) {
  return Bytes(load.KeptAs(part.gate.dtype), part.gate.cols) +
         Bytes(load.KeptAs(part.up.dtype), part.up.cols) + Bytes(down, part.down.rows);
}

// Of a layer of the dense FFN.
double DenseBytes(const ModelFile& file, const FfnPart& any, const WeightLoader& load) {
  return NeuronBytes(any, load.KeptAs(any.down.dtype), load) * file.config().ffn_size;
}

// Of all weights that are of no FFN.
double OtherBytes(const ModelFile& file, const WeightLoader& load) {
  double bytes = 0;
  for (const TensorInfo& tensor : file.tensors()) {
    if (ReadMeFfns::Takes(tensor.name)) continue;
    const int64_t elements = std::accumulate(tensor.shape.begin(), tensor.shape.end(), int64_t{1},
                                             std::multiplies<int64_t>());
    bytes += Bytes(load.KeptAs(tensor.dtype), elements);
  }
  return bytes;
}

// What is quantised by the loader is so from floats, in any order.
DType DownType(DType source, const WeightLoader& load) {
  const DType kept = load.KeptAs(source);
  return kept != source ? kept : DownType(source);
}

void Release(const ModelFile& file, const std::vector<FfnPart>& parts) {
  for (const FfnPart& part : parts) {
    for (const ConstTensor& matrix : {part.gate, part.up, part.down}) file.Release(matrix);
  }
}

// Places of a block and where their neurons come from.
struct Places {
  const std::vector<FfnPart>& parts;
  std::vector<NeuronPool::Source> sources;  // part -1: none

  const FfnPart& Part(const NeuronPool::Source& source) const {
    return parts[static_cast<size_t>(source.part)];
  }
};

// Rows of `gate` or `up` as `dtype`, moved as they are where they are of it.
void WriteRows(const Places& places, ConstTensor FfnPart::*matrix, DType dtype, Device& device,
               char* out) {
  const ConstTensor& any = places.parts[0].*matrix;
  const int64_t bytes = RowBytes(dtype, any.cols);
  const auto count = static_cast<int64_t>(places.sources.size());
  device.ParallelFor(count, 32, [&](int64_t begin, int64_t end) {
    std::vector<float> floats(static_cast<size_t>(any.cols));
    for (int64_t i = begin; i < end; ++i) {
      const NeuronPool::Source& source = places.sources[static_cast<size_t>(i)];
      char* const row = out + i * bytes;
      if (source.part < 0) {
        std::memset(row, 0, static_cast<size_t>(bytes));
        continue;
      }
      const char* const from = (places.Part(source).*matrix).Row<char>(source.neuron);
      if (dtype == any.dtype) {
        std::memcpy(row, from, static_cast<size_t>(bytes));
      } else {
        DequantizeRow(any.dtype, from, any.cols, floats.data());
        QuantizeRow(dtype, floats.data(), any.cols, row);
      }
    }
  });
}

// Columns of `down` of a plain type, moved as they are.
template <typename Bits>
void WritePlainColumns(const Places& places, int64_t row, char* out) {
  auto* to = reinterpret_cast<Bits*>(out);
  for (const NeuronPool::Source& source : places.sources) {
    *to++ = source.part < 0 ? Bits{0} : places.Part(source).down.Row<Bits>(row)[source.neuron];
  }
}

// The same where what they become has blocks.
void WriteBlockColumns(const Places& places, int64_t row, DType dtype, char* out) {
  std::vector<std::vector<float>> before;
  for (const FfnPart& part : places.parts) {
    std::vector<float>& of_part = before.emplace_back(static_cast<size_t>(part.down.cols));
    DequantizeRow(part.down.dtype, part.down.Row<char>(row), part.down.cols, of_part.data());
  }
  std::vector<float> after(places.sources.size(), 0.0f);
  for (size_t i = 0; i < after.size(); ++i) {
    const NeuronPool::Source& source = places.sources[i];
    if (source.part < 0) continue;
    after[i] = before[static_cast<size_t>(source.part)][static_cast<size_t>(source.neuron)];
  }
  QuantizeRow(dtype, after.data(), static_cast<int64_t>(after.size()), out);
}

void WriteColumns(const Places& places, DType dtype, Device& device, char* out) {
  const DType source = places.parts[0].down.dtype;
  const int64_t rows = places.parts[0].down.rows;
  const int64_t bytes = RowBytes(dtype, static_cast<int64_t>(places.sources.size()));
  device.ParallelFor(rows, 8, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      char* const row = out + r * bytes;
      if (HasBlocks(dtype)) {
        WriteBlockColumns(places, r, dtype, row);
      } else if (RowBytes(source, 1) == 2) {
        WritePlainColumns<uint16_t>(places, r, row);
      } else {
        WritePlainColumns<uint32_t>(places, r, row);
      }
    }
  });
}

}  // namespace

bool ReadMeFfns::Takes(std::string_view tensor) {
  return std::any_of(std::begin(kMatrices), std::end(kMatrices), [&](const char* matrix) {
    return tensor.find(matrix) != std::string_view::npos;
  });
}

ReadMeFfns::ReadMeFfns(const ModelFile& file, ExpertStorage storage, int64_t memory, Device* device,
                       const WeightLoader& load)
    : file_(file), device_(*device), tied_(storage == ExpertStorage::kTied) {
  for (int layer = 0; layer < file.config().num_layers; ++layer) {
    std::vector<FfnPart> parts = FindParts(file, layer);
    NeuronPool pool = TieNeurons(parts);
    Release(file, parts);
    if (storage == ExpertStorage::kAuto) tied_ = tied_ || pool.Shared();
    layers_.push_back({std::move(parts), std::move(pool), {}, {}});
  }
  if (tied_) TileAll(storage == ExpertStorage::kTied ? memory : 0, load);
}

// `more`: bytes that it may take beyond the layer of the dense FFN.
NeuronTiles ReadMeFfns::Tile(const Layer& layer, double more, const WeightLoader& load) const {
  const FfnPart& any = layer.parts[0];
  const double tile = NeuronBytes(any, DownType(any.down.dtype, load), load) * kTileNeurons;
  const double bytes = DenseBytes(file_, any, load) + more;
  return TileNeurons(layer.pool.owners, static_cast<int64_t>(bytes / tile));
}

// Puts the tiles of all layers in the order of their units, whether these come and go or not: an
// expert's neurons are summed in the same order then.
void ReadMeFfns::TileAll(int64_t memory, const WeightLoader& load) {
  const auto num_layers = static_cast<double>(layers_.size());
  const double more = kMoreThanDense * (OtherBytes(file_, load) / num_layers +
                                        DenseBytes(file_, layers_[0].parts[0], load));
  std::map<uint64_t, int64_t> tiles;
  double bytes = 0;
  for (Layer& layer : layers_) {
    layer.tiles = Tile(layer, more, load);
    const FfnPart& any = layer.parts[0];
    bytes += NeuronBytes(any, DownType(any.down.dtype, load), load) * kTileNeurons *
             static_cast<double>(layer.tiles.tiles());
    for (const uint64_t readers : ReadersOfTiles(layer.tiles)) ++tiles[readers];
  }
  const TileUnits units = GroupTiles(tiles, file_.config().read_me.num_experts);
  for (Layer& layer : layers_) layer.runs = OrderByUnit(units, layer.tiles);
  if (memory > 0 && bytes > static_cast<double>(memory) && CanBeApart(load)) units_ = units.experts;
}

// `neurons`: of each place its neuron in the pool, or -1.
ReadMeFfns::BlockMatrices ReadMeFfns::MatricesOf(const Layer& layer,
                                                 absl::Span<const int32_t> neurons,
                                                 const WeightLoader& load) const {
  auto places = std::make_shared<Places>(Places{layer.parts, {}});
  for (const int32_t neuron : neurons) {
    places->sources.push_back(neuron < 0 ? NeuronPool::Source{-1, 0}
                                         : layer.pool.neurons[static_cast<size_t>(neuron)]);
  }
  const auto width = static_cast<int64_t>(neurons.size());
  const FfnPart& any = layer.parts[0];
  Device* const device = &device_;
  const auto rows = [&](ConstTensor FfnPart::*matrix) {
    const DType dtype = load.KeptAs((any.*matrix).dtype);
    return BlockMatrix{dtype, width, (any.*matrix).cols,
                       [=](char* out) { WriteRows(*places, matrix, dtype, *device, out); }};
  };
  const DType down = DownType(any.down.dtype, load);
  const ModelFile* const file = &file_;
  return {rows(&FfnPart::gate), rows(&FfnPart::up),
          BlockMatrix{down, any.down.rows, width, [=](char* out) {
                        WriteColumns(*places, down, *device, out);
                        Release(*file, places->parts);
                      }}};
}

void ReadMeFfns::MakeBlock(const Layer& layer, absl::Span<const int32_t> neurons,
                           WeightLoader& load, NeuronBlock& block) const {
  BlockMatrices matrices = MatricesOf(layer, neurons, load);
  Linear* const linears[] = {&block.gate, &block.up, &block.down};
  for (size_t i = 0; i < matrices.size(); ++i) {
    BlockMatrix& matrix = matrices[i];
    load.Built(matrix.dtype, matrix.out, matrix.in, tied_ && linears[i] == &block.down, linears[i],
               std::move(matrix.write));
  }
}

void ReadMeFfns::AddExperts(const NeuronTiles& tiles, FfnWeights& ffn) const {
  for (int32_t e = 0; e < file_.config().read_me.num_experts; ++e) {
    ExpertTiles mine = TilesOfExpert(tiles, e);
    const auto width = kTileNeurons * static_cast<int64_t>(mine.tiles.size());
    ffn.experts.push_back({{{0, std::move(mine.tiles)}}, std::move(mine.owned), width, {}});
  }
}

// One block for all experts.
void ReadMeFfns::LoadTied(const Layer& layer, WeightLoader& load, FfnWeights& ffn) const {
  ffn.blocks.resize(1);
  MakeBlock(layer, layer.tiles.neurons, load, ffn.blocks[0]);
  AddExperts(layer.tiles, ffn);
}

bool ReadMeFfns::CanBeApart(const WeightLoader& load) const {
  const FfnPart& any = layers_[0].parts[0];
  return load.LayoutOf(load.KeptAs(any.gate.dtype), false, any.gate.cols).groups > 0 &&
         load.LayoutOf(DownType(any.down.dtype, load), true, any.down.rows).groups > 0;
}

// The same block, of which memory holds the tiles of those units that are there. Between the tiles
// of two units are addresses that nothing stands behind, so that units share no page.
void ReadMeFfns::LoadApart(int index, WeightLoader& load, FfnWeights& ffn) {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  ffn.blocks.resize(1);
  NeuronBlock& block = ffn.blocks[0];
  Linear* const linears[] = {&block.gate, &block.up, &block.down};
  const BlockMatrices shapes = MatricesOf(layer, {}, load);
  std::array<WeightLoader::TiledMatrix, 3> matrices;
  int64_t step = 1;  // tiles that a unit begins at multiples of
  for (size_t i = 0; i < matrices.size(); ++i) {
    const bool columns = linears[i] == &block.down;
    const int64_t width = columns ? shapes[i].out : shapes[i].in;
    const TileLayout layout = load.LayoutOf(shapes[i].dtype, columns, width);
    matrices[i] = {shapes[i].dtype, columns, width, 0, layout, 0};
    step = std::lcm(step,
                    DirectFile::kAlignment / std::gcd(DirectFile::kAlignment, layout.part_bytes));
  }
  std::vector<int64_t> first;  // of each run
  std::vector<int32_t> moved;  // where each tile goes
  int64_t end = 0;
  for (const auto& [unit, tiles] : layer.runs) {
    first.push_back((end + step - 1) / step * step);
    end = first.back() + tiles;
    for (int64_t t = first.back(); t < end; ++t) moved.push_back(static_cast<int32_t>(t));
  }
  for (size_t i = 0; i < matrices.size(); ++i) {
    matrices[i].tiles = (end + step - 1) / step * step;
    matrices[i].offset = std::exchange(apart_bytes_, apart_bytes_ + matrices[i].bytes());
    load.Tiled(matrices[i], linears[i]);
  }
  size_t place = 0;
  for (size_t run = 0; run < layer.runs.size(); ++run) {
    const auto& [unit, tiles] = layer.runs[run];
    const auto places = static_cast<size_t>(tiles * kTileNeurons);
    BlockMatrices mine =
        MatricesOf(layer, absl::MakeConstSpan(layer.tiles.neurons).subspan(place, places), load);
    place += places;
    load.SetUnit(unit, index);
    for (size_t i = 0; i < matrices.size(); ++i) {
      load.BuiltTiles(matrices[i], first[run], tiles, std::move(mine[i].write));
    }
  }
  load.SetUnit(-1, -1);
  AddExperts(layer.tiles, ffn);
  for (size_t e = 0; e < ffn.experts.size(); ++e) {
    for (int32_t& tile : ffn.experts[e].parts[0].tiles) tile = moved[static_cast<size_t>(tile)];
    for (const auto& [unit, tiles] : layer.runs) {
      if ((units_[static_cast<size_t>(unit)] >> e & 1) != 0) ffn.experts[e].units.push_back(unit);
    }
  }
}

// A block for each expert. What fills up its last tile is zero and needs no mask.
void ReadMeFfns::LoadCopies(int index, WeightLoader& load, FfnWeights& ffn) const {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  const int32_t experts = file_.config().read_me.num_experts;
  ffn.blocks.resize(static_cast<size_t>(experts));
  for (int32_t e = 0; e < experts; ++e) {
    std::vector<int32_t> neurons;
    for (size_t n = 0; n < layer.pool.owners.size(); ++n) {
      if ((layer.pool.owners[n] >> e & 1) != 0) neurons.push_back(static_cast<int32_t>(n));
    }
    neurons.resize((neurons.size() + kTileNeurons - 1) / kTileNeurons * kTileNeurons, -1);
    load.SetUnit(e, index);
    MakeBlock(layer, neurons, load, ffn.blocks[static_cast<size_t>(e)]);
    ffn.experts.push_back({{{e, {}}}, {}, static_cast<int64_t>(neurons.size()), {e}});
  }
  load.SetUnit(-1, -1);
}

int64_t ReadMeFfns::Load(int layer, WeightLoader& load, FfnWeights& ffn) {
  const Layer& from = layers_[static_cast<size_t>(layer)];
  if (!tied_) {
    LoadCopies(layer, load, ffn);
  } else {
    units_.empty() ? LoadTied(from, load, ffn) : LoadApart(layer, load, ffn);
  }
  const auto owned = std::count_if(from.pool.owners.begin(), from.pool.owners.end(),
                                   [](uint64_t owners) { return owners != 0; });
  load.memory().parameters += 3 * owned * file_.config().hidden_size;
  if (tied_) return static_cast<int64_t>(from.tiles.neurons.size());
  int64_t stored = 0;
  for (const Expert& expert : ffn.experts) stored += expert.width;
  return stored;
}

}  // namespace pregate
