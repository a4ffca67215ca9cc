// What a rank holds of a model: which parts, that they make up the whole, and what is refused.
#include "engine/model/model_share.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/model/random_model.h"

namespace pregate {
namespace {

using testing::HasSubstr;

std::vector<std::unique_ptr<ModelShare>> DealOut(const ModelFile& file, int32_t size,
                                                 bool by_expert = false) {
  std::vector<std::unique_ptr<ModelShare>> shares;
  for (int32_t r = 0; r < size; ++r) {
    auto share = ModelShare::Create(file, {r, size, by_expert});
    EXPECT_TRUE(share.ok()) << share.status();
    if (share.ok()) shares.push_back(*std::move(share));
  }
  return shares;
}

std::string Refusal(const ModelFile& file, int32_t size, bool by_expert, absl::StatusCode code) {
  for (int32_t r = 0; r < size; ++r) {
    const auto share = ModelShare::Create(file, {r, size, by_expert});
    if (share.ok()) continue;
    EXPECT_EQ(share.status().code(), code);
    return std::string(share.status().message());
  }
  return "";
}

// The rows of all ranks one below the other, or their columns side by side, are the tensor.
void ExpectWhole(const ModelFile& file, const std::vector<std::unique_ptr<ModelShare>>& shares,
                 const std::string& name, bool by_rows) {
  const ConstTensor whole = file.Find(name);
  ASSERT_TRUE(whole) << name;
  int64_t done = 0;
  for (const auto& share : shares) {
    const ConstTensor part = share->Find(name);
    ASSERT_TRUE(part) << name;
    const bool vector = whole.rows == 1;
    const int64_t rows = by_rows && !vector ? part.rows : whole.rows;
    EXPECT_EQ(part.rows, rows) << name;
    EXPECT_EQ(part.cols, by_rows && !vector ? whole.cols : part.cols) << name;
    for (int64_t r = 0; r < part.rows; ++r) {
      const char* const from = by_rows && !vector
                                   ? whole.Row<char>(done + r)
                                   : whole.Row<char>(r) + RowBytes(whole.dtype, done);
      EXPECT_EQ(std::memcmp(part.Row<char>(r), from,
                            static_cast<size_t>(RowBytes(part.dtype, part.cols))),
                0)
          << name << " row " << r;
    }
    done += by_rows && !vector ? part.rows : part.cols;
  }
  EXPECT_EQ(done, by_rows && whole.rows > 1 ? whole.rows : whole.cols) << name;
}

TEST(ModelShare, PartsMakeUpTheWhole) {
  RandomModelSpec spec;
  spec.qkv_bias = true;
  spec.ffn_size = 224;  // seven units
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kQ8_0}) {
    spec.matrix_dtype = dtype;
    const auto file = MakeRandomModel(spec);
    const auto shares = DealOut(*file, 2);
    ASSERT_EQ(shares.size(), 2u);
    for (const char* name : {"attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_q.bias",
                             "attn_k.bias", "attn_v.bias", "ffn_gate.weight", "ffn_up.weight"}) {
      ExpectWhole(*file, shares, absl::StrCat("blk.1.", name), true);
    }
    ExpectWhole(*file, shares, "output.weight", true);
    ExpectWhole(*file, shares, "blk.1.attn_output.weight", false);
    ExpectWhole(*file, shares, "blk.1.ffn_down.weight", false);
    for (const char* name : {"token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight"}) {
      for (const auto& share : shares) {
        EXPECT_EQ(share->Find(name).data, file->Find(name).data) << name;
      }
    }
    EXPECT_EQ(shares[0]->config().ffn_size, 96);
    EXPECT_EQ(shares[1]->config().ffn_size, 128);
    for (const auto& share : shares) {
      EXPECT_EQ(share->config().num_heads, 2);
      EXPECT_EQ(share->config().num_kv_heads, 1);
      EXPECT_EQ(share->config().shard.head_begin, (std::vector<int64_t>{0, 160, 320}));
    }
  }
}

TEST(ModelShare, FewKeyValueHeadsAreOnSeveralRanks) {
  const auto file = MakeRandomModel(RandomModelSpec());  // 4 heads, 2 of keys and values
  const auto shares = DealOut(*file, 4);
  ASSERT_EQ(shares.size(), 4u);
  const ConstTensor whole = file->Find("blk.0.attn_k.weight");
  for (int64_t r = 0; r < 4; ++r) {
    const auto& share = shares[static_cast<size_t>(r)];
    EXPECT_EQ(share->config().num_heads, 1);
    EXPECT_EQ(share->config().num_kv_heads, 1);
    EXPECT_EQ(share->Find("blk.0.attn_k.weight").data, whole.Row<char>(r / 2 * 64));
    EXPECT_EQ(share->Find("blk.0.attn_k.weight").rows, 64);
  }
}

TEST(ModelShare, ATiedTableIsAHeadInParts) {
  RandomModelSpec spec;
  spec.tied_embeddings = true;
  const auto file = MakeRandomModel(spec);
  const auto shares = DealOut(*file, 2);
  ASSERT_EQ(shares.size(), 2u);
  for (size_t r = 0; r < 2; ++r) {
    EXPECT_FALSE(shares[r]->config().tied_embeddings);
    EXPECT_EQ(shares[r]->Find("token_embd.weight").rows, 320);
    EXPECT_EQ(shares[r]->Find("output.weight").rows, 160);
    EXPECT_EQ(shares[r]->Find("output.weight").data,
              file->Find("token_embd.weight").Row<char>(static_cast<int64_t>(r) * 160));
  }
}

TEST(ModelShare, ExpertsAreCutOrDealtOutWhole) {
  RandomModelSpec spec;
  spec.num_experts = 5;
  spec.shared_ffn_size = 96;
  const auto file = MakeRandomModel(spec);
  const auto cut = DealOut(*file, 2), whole = DealOut(*file, 2, true);
  ASSERT_TRUE(cut.size() == 2 && whole.size() == 2);
  for (int e = 0; e < 5; ++e) {
    const std::string up = absl::StrCat("blk.1.ffn_up.", e, ".weight");
    const std::string down = absl::StrCat("blk.1.ffn_down.", e, ".weight");
    ExpectWhole(*file, cut, up, true);
    ExpectWhole(*file, cut, down, false);
    for (size_t r = 0; r < 2; ++r) {  // 0, 1 and 2, 3, 4
      const bool here = (e >= 2) == (r == 1);
      EXPECT_EQ(whole[r]->Find(up).data, here ? file->Find(up).data : nullptr) << up;
      EXPECT_EQ(whole[r]->Find(down).data, here ? file->Find(down).data : nullptr) << down;
    }
  }
  for (const auto* shares : {&cut, &whole}) {
    ExpectWhole(*file, *shares, "blk.0.ffn_up_shexp.weight", true);
    ExpectWhole(*file, *shares, "blk.0.ffn_down_shexp.weight", false);
    for (const auto& share : *shares) {
      EXPECT_EQ(share->Find("blk.0.ffn_gate_inp.weight").rows, 5);
      EXPECT_EQ(share->Find("blk.0.ffn_gate_inp_shexp.weight").rows, 1);
    }
  }
  EXPECT_EQ(cut[0]->config().mixture.expert_ffn_size, 64);
  EXPECT_EQ(whole[0]->config().mixture.expert_ffn_size, 128);
  EXPECT_EQ(whole[0]->config().mixture.shared_ffn_size, 32);
  EXPECT_EQ(whole[1]->config().mixture.shared_ffn_size, 64);
}

// A file with a matrix of 8-bit floats.
class F8File : public ModelFile {
 public:
  explicit F8File(std::unique_ptr<ModelFile> file) : file_(std::move(file)) {
    tensors_ = file_->tensors();
    for (TensorInfo& tensor : tensors_) {
      if (tensor.name == "blk.1.attn_q.weight") tensor.dtype = DType::kF8E4M3;
    }
  }
  const ModelConfig& config() const override { return file_->config(); }
  const TokenizerSpec& tokenizer() const override { return file_->tokenizer(); }
  const std::string& chat_template() const override { return file_->chat_template(); }
  std::string_view format() const override { return file_->format(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void Release(ConstTensor tensor) const override { file_->Release(tensor); }

 private:
  const std::unique_ptr<ModelFile> file_;
  std::vector<TensorInfo> tensors_;
};

TEST(ModelShare, SaysWhatCannotBeCut) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  RandomModelSpec spec;
  EXPECT_EQ(Refusal(*MakeRandomModel(spec), 3, false, kInvalid),
            "tensor-parallel-size: must divide the model's 4 attention heads; got 3");
  EXPECT_EQ(Refusal(*MakeRandomModel(spec), 2, true, kInvalid),
            "enable-expert-parallel: must be off for a model without gates; got on");
  spec.num_heads = 12;
  spec.num_kv_heads = 6;
  EXPECT_EQ(Refusal(*MakeRandomModel(spec), 4, false, kInvalid),
            "tensor-parallel-size: must divide the model's 6 key-value heads, or be a multiple of "
            "them; got 4");
  spec = RandomModelSpec();
  spec.ffn_size = 96;
  EXPECT_THAT(Refusal(*MakeRandomModel(spec), 4, false, kInvalid),
              HasSubstr("must be at most the units of 32 among the 96 neurons of blk.0.ffn_"));
  spec = RandomModelSpec();
  spec.head_dim = 72;
  spec.hidden_size = 288;
  spec.matrix_dtype = DType::kQ8_0;
  EXPECT_EQ(Refusal(*MakeRandomModel(spec), 4, false, kInvalid),
            "tensor-parallel-size: must cut blk.0.attn_output.weight (288 columns in blocks of 32) "
            "between blocks; got 4");
  spec = RandomModelSpec();
  spec.num_experts = 3;
  EXPECT_EQ(Refusal(*MakeRandomModel(spec), 4, true, kInvalid),
            "tensor-parallel-size: must be at most the experts of a layer, 3; got 4");
  EXPECT_EQ(
      Refusal(F8File(MakeRandomModel(RandomModelSpec())), 2, false,
              absl::StatusCode::kUnimplemented),
      "tensor-parallel-size: blk.1.attn_q.weight has its scales in another tensor, which runs on "
      "one device");
}

}  // namespace
}  // namespace pregate
