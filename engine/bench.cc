#include "engine/bench.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/engine_setup.h"
#include "engine/plan/batch_plan.h"
#include "kernels/peaks.h"

namespace pregate {
namespace {

double Seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Plans for sequences of equal length whose blocks lie one after another in the pool.
class PlanWriter {
 public:
  PlanWriter(int32_t sequence_tokens, int32_t block_tokens, int32_t vocab)
      : blocks_each_((sequence_tokens + block_tokens - 1) / block_tokens),
        block_tokens_(block_tokens),
        vocab_(vocab) {}

  // Adds positions [first, first + count) of a sequence; the last one's logits are wanted if
  // `want_logits`.
  void Add(int32_t sequence, int32_t first, int32_t count, bool want_logits) {
    if (plan_.row_start.empty()) plan_.row_start = plan_.block_start = {0};
    for (int32_t position = first; position < first + count; ++position) {
      // Any ids do; these differ between positions and sequences.
      plan_.token_ids.push_back((position * 7919 + sequence * 104729) % vocab_);
      plan_.positions.push_back(position);
      const int32_t block = sequence * blocks_each_ + position / block_tokens_;
      plan_.kv_slots.push_back(block * block_tokens_ + position % block_tokens_);
    }
    plan_.sequence_slots.push_back(sequence);
    plan_.row_start.push_back(plan_.rows());
    plan_.context_len.push_back(first + count);
    for (int32_t b = 0; b <= (first + count - 1) / block_tokens_; ++b) {
      plan_.block_ids.push_back(sequence * blocks_each_ + b);
    }
    plan_.block_start.push_back(static_cast<int32_t>(plan_.block_ids.size()));
    if (want_logits) {
      plan_.logit_rows.push_back(plan_.rows() - 1);
      plan_.logit_slots.push_back(sequence);
      plan_.logit_targets.push_back(-1);
    }
  }
  BatchPlan Take() { return std::exchange(plan_, {}); }

 private:
  const int32_t blocks_each_;
  const int32_t block_tokens_;
  const int32_t vocab_;
  BatchPlan plan_;
};

struct Times {
  double prefill = 0;
  double decode = 0;
};

Times RunOnce(EngineSetup& setup, int32_t prompt, int32_t batch, int32_t decode_tokens,
              int32_t max_rows) {
  PlanWriter writer(prompt + decode_tokens, setup.info.block_tokens, setup.info.vocab_size);
  Times times;
  const auto run = [&](double* time) {
    BatchPlan plan = writer.Take();
    const auto start = std::chrono::steady_clock::now();
    if (setup.router) setup.router->Route(plan, *setup.kv, &plan.expert_ids);
    const absl::StatusOr<Tensor> logits = setup.transformer->Forward(plan, *setup.kv);
    assert(logits.ok());  // everything is in memory
    static_cast<void>(logits);
    setup.device->Synchronize();
    *time += Seconds(std::chrono::steady_clock::now() - start);
  };
  for (int32_t s = 0; s < batch; ++s) {
    for (int32_t first = 0; first < prompt; first += max_rows) {
      const int32_t count = std::min(max_rows, prompt - first);
      writer.Add(s, first, count, first + count == prompt);
      run(&times.prefill);
    }
  }
  for (int32_t step = 0; step < decode_tokens; ++step) {
    for (int32_t s = 0; s < batch; ++s) writer.Add(s, prompt + step, 1, true);
    run(&times.decode);
  }
  return times;
}

// Weights that a prompt token meets: all of its own but the embedding table and the head.
double BodyParameters(const EngineSetup& setup) {
  const ModelConfig& config = setup.file->config();
  const double table = static_cast<double>(config.vocab_size) * config.hidden_size;
  return setup.transformer->RowParameters() - (config.tied_embeddings ? table : 2 * table);
}

// A unit is left out by C(N - readers, n) of the C(N, n) sets of n experts.
std::vector<double> ExpertBytes(const EngineSetup& setup) {
  const int32_t experts = setup.file->config().read_me.num_experts;
  std::vector<double> bytes(static_cast<size_t>(experts));
  for (const ExpertUnitSize& unit : setup.transformer->ExpertUnits()) {
    const int32_t others = experts - std::popcount(unit.readers);
    double left_out = 1;
    for (int32_t n = 0; n < experts; ++n) {  // sets of n + 1
      left_out *= std::max(0.0, static_cast<double>(others - n) / (experts - n));
      bytes[static_cast<size_t>(n)] += (1 - left_out) * static_cast<double>(unit.bytes);
    }
  }
  return bytes;
}

absl::Status ValidateBench(const BenchOptions& bench, const ModelInfo& model) {
  const auto check = [](absl::string_view name, int32_t value, int32_t high) {
    if (value >= 1 && value <= high) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": must be in [1, ", high, "]; got ", value));
  };
  absl::Status status = check("decode-tokens", bench.decode_tokens, model.max_model_len - 1);
  status.Update(check("repetitions", bench.repetitions, 1000));
  for (int32_t prompt : bench.prompt_tokens) {
    status.Update(check("prompt-tokens", prompt, model.max_model_len - bench.decode_tokens));
  }
  return status;
}

}  // namespace

absl::StatusOr<BenchReport> RunBench(const std::string& model_path, const EngineOptions& options,
                                     const BenchOptions& bench,
                                     const std::function<void(const BenchRow&)>& progress) {
  absl::StatusOr<std::unique_ptr<ModelFile>> file = OpenServedModel(model_path, options);
  if (!file.ok()) return file.status();
  return RunBench(*std::move(file), options, bench, progress);
}

absl::StatusOr<BenchReport> RunBench(std::unique_ptr<ModelFile> file, const EngineOptions& options,
                                     const BenchOptions& bench,
                                     const std::function<void(const BenchRow&)>& progress) {
  EngineOptions engine_options = options;
  for (int32_t batch : bench.batch_sizes) {
    if (batch < 1) {
      return absl::InvalidArgumentError(absl::StrCat("batch-sizes: must be >= 1; got ", batch));
    }
    engine_options.max_num_seqs = std::max(engine_options.max_num_seqs, batch);
  }
  absl::StatusOr<EngineSetup> setup = SetUpEngine(std::move(file), engine_options, nullptr);
  if (!setup.ok()) return setup.status();
  if (absl::Status status = ValidateBench(bench, setup->info); !status.ok()) return status;

  BenchReport report;
  report.model = setup->info;
  report.expert_bytes = ExpertBytes(*setup);
  if (setup->device->host_memory() && setup->ends.empty()) {  // of one rank it says little
    report.read_bytes_per_s = MeasureReadBandwidth(*setup->device);
    report.fma_flops_per_s = MeasureFmaRate(*setup->device);
    report.int8_ops_per_s = MeasureInt8Rate(*setup->device);
  }
  for (int32_t prompt : bench.prompt_tokens) {
    for (int32_t batch : bench.batch_sizes) {
      const int64_t blocks_each = (prompt + bench.decode_tokens) / setup->info.block_tokens + 1;
      if (blocks_each * batch > setup->info.kv_blocks) {
        return absl::InvalidArgumentError(absl::StrCat("batch-sizes: must fit the KV cache of ",
                                                       setup->info.kv_blocks, " blocks; got ",
                                                       batch, " sequences of ", blocks_each));
      }
      std::vector<double> prefill, decode;
      for (int32_t i = 0; i < bench.repetitions; ++i) {
        if (bench.turn) bench.turn();
        const Times times = RunOnce(*setup, prompt, batch, bench.decode_tokens,
                                    engine_options.max_num_batched_tokens);
        prefill.push_back(times.prefill);
        decode.push_back(times.decode);
      }
      BenchRow row;
      row.prompt_tokens = prompt;
      row.batch_size = batch;
      row.prefill_tokens_per_s = batch * prompt / Median(prefill);
      row.decode_tokens_per_s = batch * bench.decode_tokens / Median(decode);
      row.decode_bytes_per_s =
          row.decode_tokens_per_s / batch * setup->transformer->StepBytes(batch);
      row.prefill_ops_per_s = 2 * row.prefill_tokens_per_s * BodyParameters(*setup);
      if (progress) progress(row);
      report.rows.push_back(row);
    }
  }
  return report;
}

}  // namespace pregate
