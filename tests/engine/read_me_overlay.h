// A Read-ME overlay for a random model.
#ifndef PREGATE_TESTS_ENGINE_READ_ME_OVERLAY_H_
#define PREGATE_TESTS_ENGINE_READ_ME_OVERLAY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/model/random_model.h"
#include "tests/model/read_me_folder.h"

namespace pregate {

// A router and four overlapping experts of a random model, as a folder to lay over it.
inline void WriteReadMe(const RandomModelSpec& spec, ReadMeFolder& folder) {
  constexpr int64_t kExperts = 4, kWidth = 32;
  folder.config = {{"model_type", "read_me_overlay"},
                   {"add_cluster_predictor", true},
                   {"train_predictor", false},
                   {"embedding_dim", kWidth},
                   {"inter_dim", kWidth},
                   {"N_cluster", kExperts},
                   {"n_layer", 1},
                   {"n_head", 2},
                   {"normalizer", 1.0},
                   {"nonautoregressive", false},
                   {"hidden_act_predictor", "silu"}};
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
    folder.AddRandom("cluster_predictor." + name, shape);
  };
  add("embed.weight", {spec.vocab_size, kWidth});
  for (const char* norm : {"input_layernorm_0", "post_attention_layernorm_0", "out_layernorm"}) {
    add(absl::StrCat(norm, ".weight"), {kWidth});
  }
  for (const char* matrix : {"q_proj", "k_proj", "v_proj", "o_proj", "proj_1", "proj_2"}) {
    add(absl::StrCat(matrix, "_0.weight"), {kWidth, kWidth});
    add(absl::StrCat(matrix, "_0.bias"), {kWidth});
  }
  add("proj_out.weight", {kExperts, kWidth});
  add("proj_out.bias", {kExperts});
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    std::vector<std::vector<int64_t>> neurons(kExperts);
    for (int64_t f = 0; f < spec.ffn_size; ++f) {
      for (int64_t e = 0; e < kExperts; ++e) {
        if (f % 5 == 0 || (f * 7 + e * 3 + layer) % 8 < 3) {
          neurons[static_cast<size_t>(e)].push_back(f);
        }
      }
    }
    folder.tensors.push_back({absl::StrCat("model.layers.", layer, ".mlp.expert_masks"),
                              "U8",
                              {kExperts, (spec.ffn_size + 7) / 8},
                              PackMasks(neurons, spec.ffn_size)});
  }
}

}  // namespace pregate

#endif  // PREGATE_TESTS_ENGINE_READ_ME_OVERLAY_H_
