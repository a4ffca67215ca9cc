#include "tests/model/read_me_folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/model/gguf_writer.h"
#include "tests/model/random_model.h"

namespace pregate {
namespace {

constexpr const char* kMatrices[] = {"gate", "up", "down"};

// The three matrices of some neurons, gate and up [n, H], down [H, n].
struct Matrices {
  std::vector<float> values[3];
  int64_t width = 0;
};

Matrices CutOut(const Matrices& dense, const std::vector<int64_t>& neurons, int64_t hidden) {
  Matrices cut;
  cut.width = static_cast<int64_t>(neurons.size());
  for (int m = 0; m < 2; ++m) {
    for (const int64_t n : neurons) {
      const float* row = &dense.values[m][static_cast<size_t>(n * hidden)];
      cut.values[m].insert(cut.values[m].end(), row, row + hidden);
    }
  }
  for (int64_t h = 0; h < hidden; ++h) {
    for (const int64_t n : neurons) {
      cut.values[2].push_back(dense.values[2][static_cast<size_t>(h * dense.width + n)]);
    }
  }
  return cut;
}

// Matrices by the formula; `name` gives the name of each.
template <typename Name>
Matrices Random(int64_t width, int64_t hidden, const Name& name) {
  Matrices matrices;
  matrices.width = width;
  for (int m = 0; m < 3; ++m) {
    matrices.values[m] = RandomTensor(absl::StrCat(name(kMatrices[m]), ".weight"),
                                      m == 2 ? hidden : width, m == 2 ? width : hidden);
  }
  return matrices;
}

template <typename Name>
void Add(const Matrices& matrices, int64_t hidden, const Name& name, DType dtype,
         ReadMeFolder& folder) {
  for (int m = 0; m < 3; ++m) {
    const std::vector<int64_t> shape = m == 2 ? std::vector<int64_t>{hidden, matrices.width}
                                              : std::vector<int64_t>{matrices.width, hidden};
    folder.AddFloats(absl::StrCat(name(kMatrices[m]), ".weight"), shape, matrices.values[m], dtype);
  }
}

}  // namespace

ReadMeFolder::ReadMeFolder(const std::string& name)
    : path_(std::filesystem::path(testing::TempDir()) / ("read_me_" + name)) {}

ReadMeFolder::~ReadMeFolder() { std::filesystem::remove_all(path_); }

void ReadMeFolder::AddFloats(const std::string& name, const std::vector<int64_t>& shape,
                             const std::vector<float>& values, DType dtype) {
  const std::vector<uint8_t> bytes = EncodeTensor(values, dtype);
  tensors.push_back({name, std::string(GetDTypeInfo(dtype).name), shape,
                     std::string(bytes.begin(), bytes.end())});
}

void ReadMeFolder::AddRandom(const std::string& name, const std::vector<int64_t>& shape,
                             const std::string& seed) {
  AddFloats(name, shape, RandomTensor(seed + name, shape.size() == 1 ? 1 : shape[0], shape.back()));
}

ReadMeFolder::Tensor& ReadMeFolder::Find(const std::string& name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const Tensor& tensor) { return tensor.name == name; });
  if (found == tensors.end()) abort();
  return *found;
}

std::string ReadMeFolder::Write() const {
  std::filesystem::create_directories(path_);
  const auto write = [&](const char* name, const std::string& text) {
    std::ofstream(path_ / name, std::ios::binary) << text;
  };
  write("config.json", config.dump());
  write("tokenizer.json",
        R"({"added_tokens": [], "normalizer": null, "post_processor": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})");
  nlohmann::json header;
  std::string data;
  for (const Tensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.type},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.data.size()}}};
    data += tensor.data;
  }
  const std::string text = header.dump();
  write("model.safetensors", Bytes<uint64_t>(text.size()) + text + data);
  return path_.string();
}

std::vector<int64_t> ExpertNeurons(const ReadMeSizes& sizes, int64_t layer, int64_t expert) {
  std::vector<double> likes;
  for (int64_t f = 0; f < sizes.ffn; ++f) {
    const auto i = static_cast<uint64_t>(f);
    likes.push_back(double{RandomElement(absl::StrCat("all:", layer), i)} +
                    RandomElement(absl::StrCat("expert:", layer, ":", expert), i));
  }
  std::vector<int64_t> order(likes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return likes[static_cast<size_t>(a)] > likes[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(sizes.Width(layer, expert)));
  std::sort(order.begin(), order.end());
  return order;
}

std::string PackMasks(const std::vector<std::vector<int64_t>>& neurons, int64_t ffn) {
  const int64_t bytes = (ffn + 7) / 8;
  std::string masks(neurons.size() * static_cast<size_t>(bytes), '\0');
  for (size_t e = 0; e < neurons.size(); ++e) {
    for (const int64_t f : neurons[e]) {
      masks[e * static_cast<size_t>(bytes) + static_cast<size_t>(f / 8)] |=
          static_cast<char>(1 << f % 8);
    }
  }
  return masks;
}

void AddExperts(const ReadMeSizes& sizes, ReadMeForm form, ReadMeFolder& folder, DType dtype) {
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    const auto dense_name = [&](const char* m) { return absl::StrCat(prefix, "mlp.", m, "_proj"); };
    const Matrices dense = Random(sizes.ffn, sizes.hidden, dense_name);
    std::vector<std::vector<int64_t>> neurons;
    for (int64_t e = 0; e < sizes.experts; ++e) {
      neurons.push_back(ExpertNeurons(sizes, layer, e));
    }
    if (form == ReadMeForm::kMasked) {
      Add(dense, sizes.hidden, dense_name, dtype, folder);
      folder.tensors.push_back({prefix + "mlp.expert_masks",
                                "U8",
                                {sizes.experts, (sizes.ffn + 7) / 8},
                                PackMasks(neurons, sizes.ffn)});
      continue;
    }
    std::vector<int64_t> residual = neurons[0];
    for (const std::vector<int64_t>& mine : neurons) {
      std::vector<int64_t> both;
      std::set_intersection(residual.begin(), residual.end(), mine.begin(), mine.end(),
                            std::back_inserter(both));
      residual = std::move(both);
    }
    const auto part_name = [&](const std::string& part) {
      return [&prefix, part](const char* m) {
        return absl::StrCat(prefix, "moe.", m, "_proj_", part);
      };
    };
    if (form == ReadMeForm::kResidual) {
      Add(CutOut(dense, residual, sizes.hidden), sizes.hidden, part_name("residual"), dtype,
          folder);
    }
    for (int64_t e = 0; e < sizes.experts; ++e) {
      const std::string part = absl::StrCat(e);
      std::vector<int64_t> mine = neurons[static_cast<size_t>(e)];
      if (form == ReadMeForm::kResidual) {
        std::erase_if(mine, [&](int64_t n) {
          return std::binary_search(residual.begin(), residual.end(), n);
        });
      }
      Add(form == ReadMeForm::kUntied ? Random(sizes.Width(layer, e), sizes.hidden, part_name(part))
                                      : CutOut(dense, mine, sizes.hidden),
          sizes.hidden, part_name(part), dtype, folder);
    }
  }
}

std::vector<int32_t> RandomIds(const std::string& name, size_t count, int32_t vocab_size) {
  std::vector<int32_t> ids;
  for (uint64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>((double{RandomElement(name, i)} + 1) / 2 * vocab_size));
  }
  return ids;
}

}  // namespace pregate
