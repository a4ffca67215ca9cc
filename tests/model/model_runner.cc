#include "tests/model/model_runner.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "engine/model/sharded_transformer.h"

namespace pregate {
namespace {

constexpr int32_t kBlockTokens = 16;

template <typename T>
T OrAbort(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  fprintf(stderr, "%s\n", std::string(value.status().message()).c_str());
  abort();
}

}  // namespace

ModelRunner::ModelRunner(const ModelFile& file, const Kernels& kernels,
                         std::unique_ptr<Device> device, const Options& options)
    : options_(options),
      device_(std::move(device)),
      lengths_(static_cast<size_t>(options.num_sequences)) {
  Transformer::Options transformer_options;
  transformer_options.max_rows = options.max_rows;
  transformer_options.max_logits = options.max_rows;
  transformer_options.activations = options.activations;
  transformer_options.quantization = options.quantization;
  transformer_options.expert_storage = options.expert_storage;
  transformer_options.expert_memory = options.expert_memory;
  transformer_ =
      options.ranks > 1
          ? MakeSharded(file, kernels, transformer_options)
          : OrAbort(Transformer::Create(file, device_.get(), &kernels, transformer_options));
  if (file.config().read_me.num_experts > 0) {
    router_ = OrAbort(ExpertRouter::Create(file, device_.get(), &kernels, transformer_->embedding(),
                                           options.max_rows));
  }
  if (const ExpertStore* store = transformer_->expert_store(); store != nullptr) {
    ExpertConfig config;
    config.num_experts = file.config().read_me.num_experts;
    config.num_layers = file.config().num_layers;
    for (const ExpertUnitSize& unit : transformer_->ExpertUnits()) {
      const auto index = static_cast<int32_t>(config.units.size());
      config.units.push_back({unit.readers, store->unit_bytes(index)});
    }
    config.cache_bytes = options.expert_memory.bytes;
    config.host_bytes = store->host_cache_bytes();
    experts_.emplace(config);
  }
  const int32_t blocks = (options.max_tokens + kBlockTokens - 1) / kBlockTokens;
  kv_ =
      OrAbort(transformer_->MakeKv(options.kv_dtype, kBlockTokens, blocks * options.num_sequences));
}

std::unique_ptr<Transformer> ModelRunner::MakeSharded(
    const ModelFile& file, const Kernels& kernels,
    const Transformer::Options& transformer_options) {
  ShardedTransformer::Ranks ranks;
  for (int32_t r = 0; r < options_.ranks; ++r) {
    ranks.shares.push_back(
        OrAbort(ModelShare::Create(file, {r, options_.ranks, options_.by_expert})));
  }
  ends_ = MakeHostCommunicators(options_.ranks, /*may_spin=*/false);
  ranks.ends = ends_;
  ranks.device = device_.get();
  ranks.kernels = &kernels;
  ranks.open = [&kernels, threads = options_.threads](const ModelShare&) {
    Backend backend;
    backend.device = MakeCpuDevice(threads);
    backend.kernels = &kernels;
    return backend;
  };
  return OrAbort(ShardedTransformer::Create(std::move(ranks), transformer_options));
}

BatchPlan ModelRunner::Plan(const std::vector<Piece>& pieces) {
  BatchPlan plan;
  plan.row_start = {0};
  plan.block_start = {0};
  for (const Piece& piece : pieces) {
    int32_t& length = lengths_[static_cast<size_t>(piece.sequence)];
    const auto block_of = [&](int32_t position) {
      return kv_->num_blocks() - 1 -
             (position / kBlockTokens * options_.num_sequences + piece.sequence);
    };
    for (const int32_t id : piece.ids) {
      plan.token_ids.push_back(id);
      plan.positions.push_back(length);
      plan.kv_slots.push_back(block_of(length) * kBlockTokens + length % kBlockTokens);
      plan.logit_rows.push_back(plan.rows() - 1);
      ++length;
    }
    for (int32_t p = 0; p < length; p += kBlockTokens) plan.block_ids.push_back(block_of(p));
    plan.sequence_slots.push_back(piece.sequence);
    plan.row_start.push_back(plan.rows());
    plan.context_len.push_back(length);
    plan.block_start.push_back(static_cast<int32_t>(plan.block_ids.size()));
  }
  return plan;
}

Tensor ModelRunner::Step(const std::vector<Piece>& pieces) {
  BatchPlan plan = Plan(pieces);
  if (router_ != nullptr) router_->Route(plan, *kv_, &plan.expert_ids);
  const Tensor logits = Forward(std::move(plan));
  logits_.resize(static_cast<size_t>(logits.rows * logits.cols));
  device_->CopyToHost(logits_.data(), logits.data, logits_.size() * sizeof(float));
  return MakeView(static_cast<void*>(logits_.data()), DType::kF32, logits.rows, logits.cols);
}

Tensor ModelRunner::Forward(BatchPlan plan) {
  if (!experts_) return *transformer_->Forward(plan, *kv_);
  ExpertStore& store = *transformer_->expert_store();
  experts_->Open();
  experts_->AddLoads({}, &plan);
  store.Start(plan);
  const Tensor logits = *transformer_->Forward(plan, *kv_);
  store.FinishStep();
  for (const ExpertStore::Ending& ending : store.TakeEndings()) experts_->Loaded(ending.unit, 0);
  experts_->DidNotRun();  // its times tell nothing
  return logits;
}

std::vector<int32_t> ModelRunner::Route(const std::vector<Piece>& pieces) {
  std::vector<int32_t> experts;
  router_->Route(Plan(pieces), *kv_, &experts);
  return experts;
}

std::vector<float> ModelRunner::Run(int32_t sequence, absl::Span<const int32_t> ids,
                                    int32_t chunk) {
  Forget(sequence);
  std::vector<float> all;
  for (size_t done = 0; done < ids.size(); done += static_cast<size_t>(chunk)) {
    const Tensor logits = Step({{sequence, ids.subspan(done, static_cast<size_t>(chunk))}});
    for (int64_t r = 0; r < logits.rows; ++r) {
      all.insert(all.end(), logits.Row<float>(r), logits.Row<float>(r) + logits.cols);
    }
  }
  return all;
}

std::vector<int32_t> ModelRunner::Greedy(absl::Span<const int32_t> ids, int32_t count) {
  Forget(0);
  std::vector<int32_t> answer;
  Tensor logits = Step({{0, ids}});
  while (true) {
    const float* last = logits.Row<float>(logits.rows - 1);
    answer.push_back(static_cast<int32_t>(std::max_element(last, last + logits.cols) - last));
    if (static_cast<int32_t>(answer.size()) == count) return answer;
    logits = Step({{0, absl::MakeConstSpan(&answer.back(), 1)}});
  }
}

}  // namespace pregate
