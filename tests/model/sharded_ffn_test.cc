// A mixture's FFN in parts, on every kernel table: what the ranks' parts give adds up to what the
// whole gives, wherever rows are sorted by expert.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model/activations.h"
#include "engine/model/ffn.h"
#include "engine/model/model_share.h"
#include "engine/model/weights.h"
#include "tests/kernels/table_test.h"
#include "tests/model/random_model.h"

namespace pregate {
namespace {

constexpr int64_t kHidden = 64;

// FFN(x) of the first layer of `file`; x [rows, H].
std::vector<float> RunFfn(const ModelFile& file, const Kernels& kernels, Device* device,
                          const std::vector<float>& x) {
  const auto rows = static_cast<int32_t>(x.size() / kHidden);
  WeightOptions options;
  options.activations = DType::kF32;
  const auto weights = LoadWeights(file, device, kernels, options);
  EXPECT_TRUE(weights.ok()) << weights.status();
  const auto memory = AllocateActivations(file.config(), weights->ffn_shape, device, rows, 1);
  EXPECT_TRUE(memory.ok()) << memory.status();
  const Activations a = memory->all.Narrow(rows, 0);
  device->CopyToDevice(a.normed.data, x.data(), x.size() * sizeof(float));
  Ffn ffn(file.config(), device, &kernels, DType::kF32, nullptr);
  EXPECT_TRUE(ffn.Run(weights->layers[0].ffn, 0, a).ok());
  std::vector<float> y(x.size());
  device->CopyToHost(y.data(), a.projected.data, y.size() * sizeof(float));
  device->Synchronize();
  return y;
}

TEST(ShardedFfn, PartsAddUp) {
  PREGATE_SKIP_WITHOUT_TABLES();
  for (const TestTable& table : RunnableTables()) {
    for (const int32_t shared : {0, 96}) {
      RandomModelSpec spec;
      spec.num_layers = 1;
      spec.ffn_size = 64;
      spec.num_experts = 7;
      spec.experts_per_token = 3;
      spec.shared_ffn_size = shared;
      const auto file = MakeRandomModel(spec);
      for (const int64_t rows : {1, 2, 45}) {
        if (table.slow && rows == 2) continue;
        const std::unique_ptr<Device> device = table.make_device(2);
        const std::vector<float> x = RandomTensor("x", rows, kHidden);
        const std::vector<float> want = RunFfn(*file, *table.kernels, device.get(), x);
        float largest = 0;
        for (const float value : want) largest = std::max(largest, std::fabs(value));
        for (const bool by_expert : {false, true}) {
          SCOPED_TRACE(absl::StrCat(table.name, ", shared ", shared, ", ", rows,
                                    " rows, by expert ", by_expert));
          std::vector<float> sum(x.size(), 0.0f);
          for (const int32_t rank : {0, 1}) {
            const auto share = ModelShare::Create(*file, {rank, 2, by_expert});
            ASSERT_TRUE(share.ok()) << share.status();
            const std::vector<float> part = RunFfn(**share, *table.kernels, device.get(), x);
            for (size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
          }
          // Sums of some hundred products in another order.
          for (size_t i = 0; i < sum.size(); ++i) ASSERT_NEAR(sum[i], want[i], 1e-5 * largest) << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace pregate
