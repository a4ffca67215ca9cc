#include "engine/simulation.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <optional>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/expert_names.h"
#include "engine/plan/step_cost_model.h"
#include "engine/trace_config.h"

namespace pregate {
namespace {

// Read-ME on the authors' A100: the paper's steps of 5 to 30 sequences, and how an expert's fp16
// weights of 32 layers come over PCIe.
constexpr double kStepMs = 31, kRowMs = 0.03, kExpertMs = 2.5, kLoadMs = 40;
constexpr int32_t kLayers = 32;
constexpr int64_t kDrawnExpertBytes = 1'000'000;
constexpr double kLongestSeconds = 1e7;  // of virtual time: a load beyond capacity has an end

absl::StatusOr<std::string> ReadTrace(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": ", std::strerror(errno)));
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  return text;
}

// What ReadWorkload cannot know: whether the lines fit each other and the configuration.
absl::Status CheckTrace(const Workload& workload, const SchedulerConfig& config) {
  std::unordered_set<uint64_t> ids;
  for (const WorkloadRequest& request : workload.requests) {
    if (!ids.insert(request.id).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("request: must have a number of its own; got ", request.id, " twice"));
    }
  }
  const auto units = static_cast<int32_t>(config.experts.units.size());
  for (const WorkloadStep& step : workload.steps) {
    for (const std::vector<int32_t>* list : {&step.loaded, &step.failed}) {
      for (const int32_t unit : *list) {
        if (unit < units) continue;
        return absl::InvalidArgumentError(absl::StrCat(
            "loaded, failed: must be below the number of units (", units, "); got ", unit));
      }
    }
  }
  return absl::OkStatus();
}

// A server that nobody has recorded, with room for every sequence.
SchedulerConfig DefaultScheduler(int32_t num_experts, bool tied) {
  SchedulerConfig config;
  config.max_num_batched_tokens = 2048;
  config.max_num_prefill_tokens = 512;
  config.max_num_queued_reqs = 1 << 30;
  config.max_num_queued_tokens = int64_t{1} << 50;
  config.max_model_len = 1 << 16;
  config.enable_prefix_caching = false;
  config.num_blocks = 1;
  config.experts.num_experts = num_experts;
  config.experts.num_layers = kLayers;
  if (tied) config.experts.units = TiedUnits(kDrawnExpertBytes);
  for (int32_t expert = 0; !tied && num_experts > 1 && expert < num_experts; ++expert) {
    config.experts.units.push_back({ExpertMask{1} << expert, kDrawnExpertBytes});
  }
  return config;
}

void ApplyFlags(const SimulationOptions& options, SchedulerConfig* config) {
  const auto apply = [](int32_t flag, int32_t* field) {
    if (flag >= 0) *field = flag;
  };
  apply(options.max_num_seqs, &config->max_num_seqs);
  apply(options.max_num_step_seqs, &config->max_num_step_seqs);
  apply(options.max_num_batched_tokens, &config->max_num_batched_tokens);
  apply(options.max_num_prefill_tokens, &config->max_num_prefill_tokens);
  apply(options.router_lookahead_tokens, &config->router_lookahead_tokens);
  config->max_num_batched_tokens = std::max(config->max_num_batched_tokens, config->max_num_seqs);
  config->max_logits = std::max(config->max_logits, config->max_num_seqs);
  if (!options.expert_prefetch) config->experts.prefetch = false;
}

// Blocks for the longest requests in all slots at once.
int32_t BlocksForAll(const Workload& workload, const SchedulerConfig& config) {
  int64_t longest = 1;
  for (const WorkloadRequest& request : workload.requests) {
    longest = std::max<int64_t>(
        longest, std::max(request.max_tokens, request.answer()) + int64_t{request.prompt});
  }
  const int64_t each = std::min<int64_t>(longest, config.max_model_len) / config.block_tokens + 1;
  return static_cast<int32_t>(std::min<int64_t>(each * config.max_num_seqs, 1 << 24));
}

// Bytes of what all experts share, and of the rest of each, the largest first.
struct ExpertSizes {
  int64_t pinned = 0;
  std::vector<int64_t> own;

  // Enough for any `count` experts.
  int64_t Of(int32_t count) const {
    return std::accumulate(own.begin(), own.begin() + count, pinned);
  }
};

ExpertSizes SizesOf(const ExpertConfig& experts) {
  ExpertSizes sizes;
  const ExpertMask all = ~ExpertMask{0} >> (kMaxExperts - experts.num_experts);
  sizes.own.resize(static_cast<size_t>(experts.num_experts));
  for (const ExpertUnit& unit : experts.units) {
    if ((unit.owners & all) == all) {
      sizes.pinned += unit.bytes;
      continue;
    }
    for (int32_t expert = 0; expert < experts.num_experts; ++expert) {
      if ((unit.owners >> expert & 1) != 0) sizes.own[static_cast<size_t>(expert)] += unit.bytes;
    }
  }
  std::sort(sizes.own.rbegin(), sizes.own.rend());
  return sizes;
}

// What the recorded steps say of the server's machine.
absl::StatusOr<SimulatedMachine> FitMachine(const Workload& workload, const ExpertConfig& experts) {
  int64_t total = 0;
  for (const ExpertUnit& unit : experts.units) total += unit.bytes;
  StepCostModel model(total);
  for (const WorkloadStep& step : workload.steps) {
    int64_t bytes = 0;
    for (const ExpertUnit& unit : experts.units) {
      if ((unit.owners & step.experts) != 0) bytes += unit.bytes;
    }
    model.Observe(step.rows, bytes, step.seconds - step.stall);
    for (size_t i = 0; i < step.loaded.size(); ++i) {
      model.ObserveLoad(experts.units[static_cast<size_t>(step.loaded[i])].bytes,
                        step.load_seconds[i]);
    }
  }
  if (!model.ready()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "step-ms, row-ms, expert-ms: must be given where fewer than 32 steps tell them; got ",
        workload.steps.size(), " steps"));
  }
  SimulatedMachine machine;
  machine.fixed = model.cost().fixed;
  machine.per_row = model.cost().per_row;
  machine.per_byte = model.cost().per_byte;
  machine.load_per_byte = model.load_seconds_per_byte();
  return machine;
}

absl::StatusOr<SimulatedMachine> ChooseMachine(const SimulationOptions& options,
                                               const Workload& workload,
                                               const ExpertConfig& experts, int64_t expert_bytes) {
  const double bytes = static_cast<double>(std::max<int64_t>(expert_bytes, 1));
  SimulatedMachine machine = {.fixed = kStepMs * 1e-3,
                              .per_row = kRowMs * 1e-3,
                              .per_byte = kExpertMs * 1e-3 / bytes,
                              .load_per_byte = kLoadMs * 1e-3 / bytes};
  const bool all_given = options.step_ms >= 0 && options.row_ms >= 0 && options.expert_ms >= 0;
  if (options.trace != kSyntheticTrace && !all_given) {
    const absl::StatusOr<SimulatedMachine> fitted = FitMachine(workload, experts);
    if (!fitted.ok()) return fitted.status();
    machine = *fitted;
  }
  if (options.step_ms >= 0) machine.fixed = options.step_ms * 1e-3;
  if (options.row_ms >= 0) machine.per_row = options.row_ms * 1e-3;
  if (options.expert_ms >= 0) machine.per_byte = options.expert_ms * 1e-3 / bytes;
  if (options.load_ms >= 0) machine.load_per_byte = options.load_ms * 1e-3 / bytes;
  machine.layers = experts.num_layers;
  machine.pipelined = options.pipelined;
  return machine;
}

// Everything that the runs share.
class Simulation {
 public:
  explicit Simulation(const SimulationOptions& options) : options_(options) {}

  absl::Status Open() {
    if (options_.trace == kSyntheticTrace) {
      workload_ = Draw(options_.rate);
      config_ = DefaultScheduler(options_.experts, options_.tied);
    } else if (absl::Status status = OpenTrace(); !status.ok()) {
      return status;
    }
    recorded_config_ = config_;
    ApplyFlags(options_, &config_);
    if (config_.num_blocks == 1) config_.num_blocks = BlocksForAll(workload_, config_);
    if (options_.expert_eviction != "recorded") {
      const auto eviction = ParseExpertEviction(options_.expert_eviction);
      if (!eviction.ok()) return eviction.status();
      config_.experts.eviction = *eviction;
    }
    sizes_ = SizesOf(config_.experts);
    return CheckOptions();
  }

  absl::StatusOr<SimulationReport> Run(const std::function<void(double)>& progress) {
    SimulationReport report;
    report.experts = workload_.num_experts;
    report.requests = static_cast<int64_t>(workload_.requests.size());
    report.recorded_steps = static_cast<int64_t>(workload_.steps.size());
    report.scheduler = config_;
    report.expert_bytes = sizes_.Of(1);
    if (!workload_.steps.empty() && config_recorded_) {
      report.rows.push_back({.policy = NameOf(recorded_config_.experts.policy),
                             .recorded = true,
                             .report = ReplayWorkload(workload_, recorded_config_)});
    }
    if (options_.replay) return report;
    absl::StatusOr<SimulatedMachine> machine =
        ChooseMachine(options_, workload_, config_.experts, report.expert_bytes);
    if (!machine.ok()) return machine.status();
    report.machine = machine_ = *machine;
    if (absl::Status status = RunAll(progress, &report); !status.ok()) return status;
    return report;
  }

 private:
  absl::Status OpenTrace() {
    const absl::StatusOr<std::string> text = ReadTrace(options_.trace);
    if (!text.ok()) return text.status();
    const auto refuse = [this](absl::string_view why) {
      return absl::InvalidArgumentError(absl::StrCat(options_.trace, ": ", why));
    };
    if (const std::string wrong = ReadWorkload(*text, &workload_); !wrong.empty()) {
      return refuse(wrong);
    }
    const absl::StatusOr<std::optional<SchedulerConfig>> config =
        ReadServerConfig(*text, workload_.num_experts);
    if (!config.ok()) return refuse(std::string(config.status().message()));
    config_recorded_ = config->has_value();
    config_ = config_recorded_ ? **config : DefaultScheduler(workload_.num_experts, false);
    if (const absl::Status status = CheckTrace(workload_, config_); !status.ok()) {
      return refuse(std::string(status.message()));
    }
    if (workload_.requests.empty()) return refuse("must hold a request; got none");
    return absl::OkStatus();
  }

  absl::Status CheckOptions() {
    if (options_.replay && (workload_.steps.empty() || !config_recorded_)) {
      return absl::InvalidArgumentError(
          "replay: must have a trace with a server's steps; got one without");
    }
    if (options_.tied && (options_.trace != kSyntheticTrace || options_.experts != kTiedExperts)) {
      return absl::InvalidArgumentError(absl::StrCat("tied: must be with a synthetic trace of ",
                                                     kTiedExperts, " experts; got ", options_.trace,
                                                     " of ", workload_.num_experts));
    }
    const bool open_loop = options_.rate > 0 || !options_.load.empty();
    if (options_.clients > 0 && open_loop) {
      return absl::InvalidArgumentError(
          absl::StrCat("clients: must be without --rate and --load; got ", options_.clients));
    }
    if (options_.rate > 0 && !options_.load.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("rate: must be without --load; got ", options_.rate));
    }
    for (const std::string& policy : options_.policies) {
      if (const auto known = ParseExpertBatching(policy); !known.ok()) return known.status();
    }
    for (const int32_t resident : options_.experts_resident) {
      if (resident <= workload_.num_experts) continue;
      return absl::InvalidArgumentError(absl::StrCat("experts-resident: must be in [1, ",
                                                     workload_.num_experts, "]; got ", resident));
    }
    return absl::OkStatus();
  }

  absl::Status RunAll(const std::function<void(double)>& progress, SimulationReport* report) {
    std::vector<int32_t> loads = options_.load, fits = options_.experts_resident;
    std::vector<std::string> policies = options_.policies;
    if (!loads.empty()) report->capacity = MeasureCapacity();
    if (loads.empty()) loads = {0};
    if (fits.empty()) fits = {0};
    // Without a router there is nothing to choose by.
    if (workload_.num_experts == 1) policies = {"off"};
    const auto runs = static_cast<double>(loads.size() * fits.size() * policies.size());
    double done = 0;
    for (const int32_t load : loads) {
      SetRate(load > 0 ? load * 1e-2 * report->capacity : options_.rate);
      for (const int32_t fit : fits) {
        for (const std::string& policy : policies) {
          SimulationRow row = {
              .policy = policy, .experts_resident = fit, .load = load, .report = {}};
          if (absl::Status status = RunOne(&row); !status.ok()) return status;
          report->rows.push_back(std::move(row));
          if (progress) progress(++done / runs);
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status RunOne(SimulationRow* row) {
    SimulateOptions run = Options(*ParseExpertBatching(row->policy));
    ExpertConfig& experts = run.scheduler.experts;
    if (row->experts_resident == workload_.num_experts) {
      experts.cache_bytes = 0;
    } else if (row->experts_resident > 0) {
      experts.cache_bytes = sizes_.Of(row->experts_resident);
    }
    if (experts.cache_bytes > 0 && machine_.load_per_byte == 0) {
      return absl::InvalidArgumentError(
          "load-ms: must be given where the trace has no loads; got nothing");
    }
    run.clients = options_.clients;
    // A synthetic load without a rate is a closed loop of as many clients as there are slots.
    if (options_.trace == kSyntheticTrace && options_.rate == 0 && row->load == 0 &&
        run.clients == 0) {
      run.clients = config_.max_num_seqs;
    }
    row->report = SimulateWorkload(workload_, run);
    if (row->report.broken.empty()) return absl::OkStatus();
    return absl::InternalError(absl::StrCat(row->policy, ": ", row->report.broken));
  }

  SimulateOptions Options(ExpertPolicy policy) const {
    SimulateOptions run;
    run.scheduler = config_;
    run.scheduler.experts.policy = policy;
    run.machine = machine_;
    const auto requests = static_cast<int32_t>(workload_.requests.size());
    run.warm_up_requests = options_.warm_up_requests >= 0
                               ? std::min(options_.warm_up_requests, requests - 1)
                               : requests / 10;
    run.longest_seconds = kLongestSeconds;
    return run;
  }

  // Requests a second that decode-first serves when there is always another. Tokens tell it: of the
  // requests, those that are there at the end have been served in part and do not count.
  double MeasureCapacity() const {
    SimulateOptions run = Options(ExpertPolicy::kDecodeFirst);
    run.clients = config_.max_num_seqs;
    double tokens = 0;
    for (const WorkloadRequest& request : workload_.requests) tokens += request.answer();
    return SimulateWorkload(workload_, run).tokens_per_second *
           static_cast<double>(workload_.requests.size()) / tokens;
  }

  Workload Draw(double rate) const {
    return DrawWorkload({.seed = options_.seed,
                         .num_experts = options_.experts,
                         .requests = options_.requests,
                         .rate = rate,
                         .prompt_mean = static_cast<double>(options_.prompt_tokens),
                         .answer_mean = static_cast<double>(options_.answer_tokens),
                         .stay = options_.stickiness});
  }

  // The same arrivals, faster or slower. 0: as they are.
  void SetRate(double rate) {
    if (rate <= 0) return;
    if (options_.trace == kSyntheticTrace) {
      workload_ = Draw(rate);
      return;
    }
    double last = 0;
    for (const WorkloadRequest& request : workload_.requests) {
      last = std::max(last, request.arrival);
    }
    if (last <= 0) return;
    const double factor = static_cast<double>(workload_.requests.size()) / last / rate;
    for (WorkloadRequest& request : workload_.requests) request.arrival *= factor;
  }

  const SimulationOptions& options_;
  Workload workload_;
  SchedulerConfig config_;
  SchedulerConfig recorded_config_;
  bool config_recorded_ = false;
  ExpertSizes sizes_;
  SimulatedMachine machine_;
};

}  // namespace

absl::StatusOr<SimulationReport> RunSimulation(const SimulationOptions& options,
                                               const std::function<void(double)>& progress) {
  Simulation simulation(options);
  if (absl::Status status = simulation.Open(); !status.ok()) return status;
  return simulation.Run(progress);
}

}  // namespace pregate
