// The router against PyTorch: the experts of 12,288 tokens for each of four networks, however the
// sequences are cut. tests/tools/make_read_me_goldens.py made the reference.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model/model_file.h"
#include "kernels/kernels.h"
#include "tests/kernels/table_test.h"
#include "tests/model/model_runner.h"
#include "tests/model/read_me_folder.h"

namespace pregate {
namespace {

constexpr char kData[] = "tests/testdata/read_me/";

// The goldens of one network, and a model that has it ahead.
class RouterCase {
 public:
  explicit RouterCase(size_t index) : folder_(absl::StrCat("router_", index)) {
    const nlohmann::json all =
        nlohmann::json::parse(std::ifstream(std::string(kData) + "cases.json"))["routers"];
    sequences_ = all["sequences"];
    length_ = all["length"];
    const int32_t vocab_size = all["vocab_size"];
    const nlohmann::json& mine = all["cases"][index];
    name_ = mine["name"];
    std::ifstream in(std::string(kData) + "routers.bin", std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    const size_t count = sequences_ * length_;
    const auto first = bytes.begin() + static_cast<int64_t>(index * count);
    want_.assign(first, first + static_cast<int64_t>(count));
    for (size_t s = 0; s < sequences_; ++s) {
      ids_.push_back(RandomIds(absl::StrCat("ids:", name_, ":", s), length_, vocab_size));
    }
    WriteModel(mine, vocab_size);
  }

  const ModelFile& file() const { return *file_; }
  const std::string& name() const { return name_; }
  size_t sequences() const { return sequences_; }
  size_t length() const { return length_; }
  // Tokens [begin, begin + count) of a sequence, and their experts.
  ModelRunner::Piece Piece(size_t sequence, size_t begin, size_t count) const {
    return {static_cast<int32_t>(sequence),
            absl::MakeConstSpan(ids_[sequence]).subspan(begin, count)};
  }
  absl::Span<const int32_t> Want(size_t sequence, size_t begin, size_t count) const {
    return absl::MakeConstSpan(want_).subspan(sequence * length_ + begin, count);
  }

 private:
  // The smallest backbone that there can be: nothing of it runs.
  void WriteModel(const nlohmann::json& mine, int32_t vocab_size) {
    folder_.config = {{"model_type", "llama"},       {"hidden_size", 64},
                      {"intermediate_size", 32},     {"num_hidden_layers", 1},
                      {"num_attention_heads", 1},    {"num_key_value_heads", 1},
                      {"vocab_size", vocab_size},    {"max_position_embeddings", 2048},
                      {"tie_word_embeddings", true}, {"rope_theta", 10000.0}};
    folder_.config.update(mine["config"]);
    const int64_t experts = folder_.config["N_cluster"];
    folder_.AddRandom("model.embed_tokens.weight", {vocab_size, 64});
    folder_.AddRandom("model.norm.weight", {64});
    for (const char* norm : {"input", "post_attention"}) {
      folder_.AddRandom(absl::StrCat("model.layers.0.", norm, "_layernorm.weight"), {64});
    }
    for (const char* part : {"q", "k", "v", "o"}) {
      folder_.AddRandom(absl::StrCat("model.layers.0.self_attn.", part, "_proj.weight"), {64, 64});
    }
    folder_.AddRandom("model.layers.0.mlp.gate_proj.weight", {32, 64});
    folder_.AddRandom("model.layers.0.mlp.up_proj.weight", {32, 64});
    folder_.AddRandom("model.layers.0.mlp.down_proj.weight", {64, 32});
    folder_.tensors.push_back(
        {"model.layers.0.mlp.expert_masks",
         "U8",
         {experts, 4},
         PackMasks(std::vector<std::vector<int64_t>>(static_cast<size_t>(experts), {0}), 32)});
    for (const nlohmann::json& tensor : mine["tensors"]) {
      folder_.AddRandom(tensor[0], tensor[1], name_ + ":");
    }
    auto file = ModelFile::Open(folder_.Write());
    EXPECT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
  }

  ReadMeFolder folder_;
  std::string name_;
  size_t sequences_ = 0, length_ = 0;
  std::vector<std::vector<int32_t>> ids_;  // [sequences][length]
  std::vector<int32_t> want_;              // [sequences * length]
  std::unique_ptr<ModelFile> file_;
};

ModelRunner MakeRunner(const RouterCase& router, const Kernels& kernels,
                       std::unique_ptr<Device> device) {
  return ModelRunner(router.file(), kernels, std::move(device),
                     {.num_sequences = static_cast<int32_t>(router.sequences()),
                      .max_tokens = static_cast<int32_t>(router.length()),
                      .max_rows = static_cast<int32_t>(router.length())});
}
ModelRunner MakeRunner(const RouterCase& router) {
  return MakeRunner(router, **CpuKernels(), MakeCpuDevice(2));
}

// How many of the rows' experts are not those that are wanted.
size_t Wrong(const std::vector<int32_t>& got, absl::Span<const int32_t> want) {
  EXPECT_EQ(got.size(), want.size());
  size_t wrong = 0;
  for (size_t i = 0; i < got.size(); ++i) wrong += got[i] != want[i] ? 1 : 0;
  return wrong;
}

class ReadMeRouter : public testing::TestWithParam<size_t> {
 protected:
  RouterCase router_{GetParam()};
};

TEST_P(ReadMeRouter, WholeSequencesOnEveryTable) {
  for (const TestTable& table : RunnableTables()) {
    // The reference is slow: it sees one of the sequences.
    const size_t sequences = table.kernels == &ReferenceKernels() ? 1 : router_.sequences();
    ModelRunner runner = MakeRunner(router_, *table.kernels, table.make_device(2));
    for (size_t s = 0; s < sequences; ++s) {
      EXPECT_EQ(Wrong(runner.Route({router_.Piece(s, 0, router_.length())}),
                      router_.Want(s, 0, router_.length())),
                0u)
          << table.name << ", sequence " << s;
    }
  }
}

// Not only the experts: every bit of the logits.
TEST_P(ReadMeRouter, ChunksOfAnySize) {
  ModelRunner runner = MakeRunner(router_);
  const int64_t experts = router_.file().config().read_me.num_experts;
  const size_t chunks[] = {1, 2, 3, 16, 17, 64, 100, 511};
  ASSERT_EQ(std::size(chunks), router_.sequences());
  for (size_t s = 0; s < router_.sequences(); ++s) {
    size_t wrong = 0;
    const auto sequence = static_cast<int32_t>(s);
    runner.Route({router_.Piece(s, 0, router_.length())});
    const ConstTensor logits = runner.router().logits();
    const std::vector<float> whole(logits.Row<float>(0), logits.Row<float>(logits.rows));
    runner.Forget(sequence);
    for (size_t done = 0; done < router_.length(); done += chunks[s]) {
      const size_t count = std::min(chunks[s], router_.length() - done);
      wrong += Wrong(runner.Route({router_.Piece(s, done, count)}), router_.Want(s, done, count));
      ASSERT_EQ(
          std::memcmp(runner.router().logits().data, &whole[done * static_cast<size_t>(experts)],
                      count * static_cast<size_t>(experts) * sizeof(float)),
          0)
          << "chunks of " << chunks[s] << ", position " << done;
    }
    EXPECT_EQ(wrong, 0u) << "chunks of " << chunks[s];
  }
}

// All sequences side by side, each at its own pace: single tokens beside long pieces.
TEST_P(ReadMeRouter, MixedBatches) {
  ModelRunner runner = MakeRunner(router_);
  std::vector<size_t> done(router_.sequences(), 0);
  size_t wrong = 0;
  for (size_t step = 0;; ++step) {
    std::vector<ModelRunner::Piece> pieces;
    std::vector<int32_t> want;
    for (size_t s = 0; s < router_.sequences(); ++s) {
      const size_t pace = (step + s) % 3 == 0 ? 1 + 13 * s : 1;
      const size_t count = std::min(pace, router_.length() - done[s]);
      if (count == 0 || (step + s) % 5 == 0) continue;
      pieces.push_back(router_.Piece(s, done[s], count));
      const absl::Span<const int32_t> its = router_.Want(s, done[s], count);
      want.insert(want.end(), its.begin(), its.end());
      done[s] += count;
    }
    if (!pieces.empty()) wrong += Wrong(runner.Route(pieces), want);
    if (std::all_of(done.begin(), done.end(), [&](size_t d) { return d == router_.length(); })) {
      break;
    }
  }
  EXPECT_EQ(wrong, 0u);
}

INSTANTIATE_TEST_SUITE_P(Networks, ReadMeRouter, testing::Range(size_t{0}, size_t{4}),
                         [](const testing::TestParamInfo<size_t>& info) {
                           return RouterCase(info.param).name();
                         });

}  // namespace
}  // namespace pregate
