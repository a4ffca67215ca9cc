#include "tests/plan/sim_world.h"

#include <algorithm>
#include <sstream>

#include "tests/plan/plan_text.h"
#include "tests/plan/sim_random.h"

namespace pregate {
namespace {

// What a world is about. Each makes something likely that is rare by chance.
enum class Scene : uint8_t {
  kMixed,
  kCrowd,   // long answers side by side in a pool that has room for few: preemption
  kStream,  // somebody unimportant came before a stream of important requests: ageing
  kLeader   // a long prompt is computed slowly, others wait for its prefix: overtaking
};

Scene DrawScene(SimRandom& random) {
  const int32_t draw = random.Draw(1, 64);
  return draw <= 24   ? Scene::kCrowd
         : draw <= 32 ? Scene::kStream
         : draw == 33 ? Scene::kLeader
                      : Scene::kMixed;
}

// The most tokens of a prompt and of an answer, which the requests of a world have in common.
struct Lengths {
  int32_t prompt = 1;
  int32_t answer = 1;
};

Lengths DrawLengths(SimRandom& random, Scene scene) {
  if (scene == Scene::kCrowd) return {random.LogDraw(1, 16), random.Draw(12, 48)};
  if (scene == Scene::kLeader) return {random.Draw(150, 250), random.Draw(1, 2)};
  const bool is_long = random.OneIn(8);
  return {random.LogDraw(1, is_long ? 256 : 40), random.LogDraw(1, is_long ? 64 : 32)};
}

SchedulerConfig DrawConfig(SimRandom& random, const Lengths& lengths) {
  const int32_t longest = lengths.prompt + lengths.answer;
  SchedulerConfig config;
  config.block_tokens = random.LogDraw(1, 16);
  config.max_num_seqs = random.LogDraw(1, random.OneIn(4) ? 256 : 8);
  config.max_num_batched_tokens = random.LogDraw(1, 256);
  config.max_logits = config.max_num_seqs + random.LogDraw(1, 32) - 1;
  // Some contexts end answers before their time, and some refuse prompts.
  config.max_model_len = random.OneIn(3) ? random.Draw(2, longest + 1) : longest + 1;
  if (random.OneIn(4)) {
    config.num_blocks = random.LogDraw(4, 4096);
  } else {  // so few that a handful of sequences fights for them
    const int32_t blocks = longest / config.block_tokens + 1;
    config.num_blocks = std::max(4, random.Draw(blocks, 4 * blocks) - random.Draw(0, blocks / 2));
  }
  if (random.OneIn(4)) config.max_num_queued_reqs = random.LogDraw(1, 16);
  if (random.OneIn(4)) config.max_num_queued_tokens = random.LogDraw(1, 256);
  config.enable_prefix_caching = !random.OneIn(4);
  config.policy = random.OneIn(2) ? SchedulingPolicy::kPriority : SchedulingPolicy::kFcfs;
  config.max_preemptions = random.Draw(0, 3);
  config.wait_steps_max = random.LogDraw(1, 64);
  return config;
}

void SetScene(SimRandom& random, Scene scene, const Lengths& lengths, World* world) {
  SchedulerConfig& config = world->config;
  if (scene == Scene::kCrowd) {
    config.block_tokens = random.LogDraw(1, 4);
    const int32_t blocks = (lengths.prompt + lengths.answer) / config.block_tokens + 1;
    config.num_blocks = std::max(4, random.Draw(blocks, 2 * blocks));
    config.max_num_seqs = random.Draw(2, 12);
    config.max_num_batched_tokens = std::max(config.max_num_batched_tokens, random.Draw(1, 16));
    config.max_preemptions = random.Draw(0, 4);
  } else if (scene == Scene::kStream) {
    config.max_num_seqs = random.Draw(1, 2);
    config.wait_steps_max = random.Draw(1, 8);
  } else if (scene == Scene::kLeader) {
    config.max_model_len = lengths.prompt + lengths.answer + 1;
    config.num_blocks = 4 * config.max_model_len / config.block_tokens;
    config.enable_prefix_caching = true;
    config.max_num_seqs = random.Draw(2, 4);
    config.max_num_batched_tokens = 64;
    config.max_logits = 0;  // as few as may be: a scored prompt gets what others leave
  }
  config.max_logits = std::max(config.max_logits, config.max_num_seqs);
}

std::vector<int32_t> DrawTokens(SimRandom& random, int32_t count, int32_t vocabulary) {
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = random.Draw(0, vocabulary - 1);
  return tokens;
}

// Requests of one world have prefixes in common.
class RequestDraw {
 public:
  RequestDraw(SimRandom& random, const Lengths& lengths, int32_t vocabulary)
      : random_(random),
        lengths_(lengths),
        vocabulary_(vocabulary),
        has_salts_(random.OneIn(4)),
        scores_(random.OneIn(4)),
        stops_(random.OneIn(2)) {
    for (int32_t i = random.Draw(1, 3); i > 0; --i) {
      stems_.push_back(DrawTokens(random, lengths_.prompt, vocabulary_));
    }
  }

  Request Draw(SequenceId id) {
    Request request;
    request.id = id;
    request.prompt = DrawPrompt();
    last_prompt_ = request.prompt;
    request.max_tokens = random_.Draw(1, lengths_.answer);
    if (random_.OneIn(4)) request.min_tokens = random_.Draw(0, request.max_tokens);
    if (stops_ && random_.OneIn(2)) {
      request.stop_ids = DrawTokens(random_, random_.Draw(1, 2), vocabulary_);
      std::sort(request.stop_ids.begin(), request.stop_ids.end());
    }
    request.priority = random_.Draw(-2, 2);
    if (has_salts_) request.cache_salt = random_.Draw(0, 1);
    request.prompt_logits = scores_ && random_.OneIn(4);
    return request;
  }

 private:
  std::vector<int32_t> DrawPrompt() {
    // Another answer to the same prompt.
    if (!last_prompt_.empty() && random_.OneIn(4)) return last_prompt_;
    const int32_t size = random_.Draw(1, lengths_.prompt);
    const int32_t shared = random_.OneIn(3) ? 0 : random_.Draw(0, size);
    const std::vector<int32_t>& stem =
        stems_[random_.Draw(0, static_cast<int32_t>(stems_.size()) - 1)];
    std::vector<int32_t> prompt(stem.begin(), stem.begin() + shared);
    const std::vector<int32_t> own = DrawTokens(random_, size - shared, vocabulary_);
    prompt.insert(prompt.end(), own.begin(), own.end());
    return prompt;
  }

  SimRandom& random_;
  const Lengths lengths_;
  const int32_t vocabulary_;
  const bool has_salts_;
  const bool scores_;
  const bool stops_;
  std::vector<std::vector<int32_t>> stems_;
  std::vector<int32_t> last_prompt_;
};

void DrawArrivals(SimRandom& random, Scene scene, const Lengths& lengths, World* world) {
  const bool steady = scene == Scene::kStream || scene == Scene::kLeader;
  const int32_t requests = scene == Scene::kLeader   ? random.Draw(100, 150)
                           : scene == Scene::kStream ? random.Draw(16, 40)
                                                     : random.LogDraw(1, 32);
  const int32_t burst = random.LogDraw(1, 16);
  const int32_t gap = random.LogDraw(1, 16);
  RequestDraw draw(random, lengths, world->vocabulary);
  const std::vector<int32_t> long_prompt = DrawTokens(random, lengths.prompt, world->vocabulary);
  int32_t step = 0;
  for (int32_t i = 1; i <= requests; ++i) {
    Request request = draw.Draw(static_cast<SequenceId>(i));
    if (steady) {
      step += i <= 3 ? 0 : random.Draw(0, scene == Scene::kLeader ? 1 : 3);
    } else if (random.OneIn(burst)) {
      step += random.Draw(1, gap);
    }
    if (scene == Scene::kStream) request.priority = i <= 3 ? 1 : 0;
    if (scene == Scene::kLeader) {
      request.prompt_logits = i == 1;
      request.prompt = i <= 2 ? long_prompt : DrawTokens(random, 1, world->vocabulary);
    }
    world->arrivals.push_back({step, std::move(request)});
  }
}

void DrawFaults(SimRandom& random, World* world) {
  const int32_t requests = static_cast<int32_t>(world->arrivals.size());
  const int32_t last_step = world->arrivals.back().step + 24;
  const auto add = [&](FaultKind kind, int32_t count) {
    for (; count > 0; --count) {
      const SequenceId id = static_cast<SequenceId>(random.Draw(1, requests));
      world->faults.push_back({kind, random.Draw(0, last_step), id});
    }
  };
  if (random.OneIn(3)) add(FaultKind::kCancel, random.Draw(1, requests));
  if (random.OneIn(4)) add(FaultKind::kDeadline, random.Draw(1, requests));
  if (random.OneIn(3)) add(FaultKind::kCancelInStep, random.Draw(1, requests));
  if (random.OneIn(4)) add(FaultKind::kFailStep, random.Draw(1, 4));
  if (random.OneIn(16)) add(FaultKind::kCancelAll, 1);
  if (random.OneIn(16)) {  // a storm: half of them at once
    const int32_t step = random.Draw(0, last_step);
    const FaultKind kind = random.OneIn(2) ? FaultKind::kCancel : FaultKind::kCancelInStep;
    for (int32_t id = 1; id <= requests; ++id) {
      if (random.OneIn(2)) world->faults.push_back({kind, step, static_cast<SequenceId>(id)});
    }
  }
  std::stable_sort(world->faults.begin(), world->faults.end(),
                   [](const Fault& a, const Fault& b) { return a.step < b.step; });
}

// The experts' weights: copies, or neurons that experts share, one unit for each set of owners.
void DrawUnits(SimRandom& random, ExpertConfig* experts) {
  const int32_t count = experts->num_experts;
  const bool tied = random.OneIn(2);
  if (tied) experts->units.push_back({(ExpertMask{1} << count) - 1, random.Draw(1, 50)});
  for (int32_t e = 0; e < count; ++e) {
    experts->units.push_back({ExpertMask{1} << e, random.Draw(50, 100)});
  }
  for (int32_t i = tied ? random.Draw(1, 2 * count) : 0; i > 0; --i) {
    const ExpertMask owners = random.Next() & ((ExpertMask{1} << count) - 1);
    if (owners != 0) experts->units.push_back({owners, random.Draw(1, 20)});
  }
}

// At least the pinned units and those of any one expert, and less than all.
int64_t DrawCacheBytes(SimRandom& random, const ExpertConfig& experts) {
  int64_t least = 0, all = 0;
  for (const ExpertUnit& unit : experts.units) all += unit.bytes;
  for (int32_t e = 0; e < experts.num_experts; ++e) {
    int64_t bytes = 0;
    for (const ExpertUnit& unit : experts.units) {
      const bool pinned = unit.owners == (ExpertMask{1} << experts.num_experts) - 1;
      if (pinned || (unit.owners >> e & 1) != 0) bytes += unit.bytes;
    }
    least = std::max(least, bytes);
  }
  return random.Draw(static_cast<int32_t>(least), static_cast<int32_t>(std::max(least, all - 1)));
}

void DrawExperts(SimRandom& random, World* world) {
  ExpertConfig& experts = world->config.experts;
  experts.num_experts = random.Draw(2, 8);
  experts.num_layers = random.Draw(1, 4);
  experts.policy = static_cast<ExpertPolicy>(random.Draw(0, 5));
  experts.max_wait_steps = random.LogDraw(1, 32);
  experts.max_wait_gaps = random.LogDraw(2, 32);
  experts.eviction = static_cast<ExpertEviction>(random.OneIn(2) ? 0 : random.Draw(1, 3));
  experts.prefetch = !random.OneIn(4);
  DrawUnits(random, &experts);
  if (!random.OneIn(3)) experts.cache_bytes = DrawCacheBytes(random, experts);
  experts.host_bytes = experts.cache_bytes;
  if (random.OneIn(2)) {
    world->config.max_num_step_seqs = random.LogDraw(1, world->config.max_num_seqs);
  }
  if (random.OneIn(2)) world->config.router_lookahead_tokens = random.LogDraw(1, 256) - 1;
  world->timed = random.OneIn(2);
  world->loads_fail = random.OneIn(4);
  world->load_seed = random.Next();
}

const char* Name(FaultKind kind) {
  switch (kind) {
    case FaultKind::kCancel:
      return "cancel";
    case FaultKind::kDeadline:
      return "deadline";
    case FaultKind::kCancelInStep:
      return "cancel between plan and commit";
    case FaultKind::kFailStep:
      return "step fails";
    case FaultKind::kCancelAll:
      return "cancel all";
  }
  return "";
}

}  // namespace

World DrawWorld(uint64_t seed) {
  SimRandom random(seed);
  World world;
  const Scene scene = DrawScene(random);
  const Lengths lengths = DrawLengths(random, scene);
  world.config = DrawConfig(random, lengths);
  if (random.OneIn(3)) world.hash_bits = random.Draw(0, 4);
  world.vocabulary = random.LogDraw(2, 64);
  SetScene(random, scene, lengths, &world);
  DrawArrivals(random, scene, lengths, &world);
  DrawFaults(random, &world);
  if (random.OneIn(2)) world.config.max_num_prefill_tokens = random.LogDraw(1, 32);
  if (random.OneIn(3)) DrawExperts(random, &world);
  if (random.OneIn(3)) world.config.max_draft_tokens = random.LogDraw(1, 8);
  return world;
}

std::string ToString(const World& world) {
  std::ostringstream out;
  const SchedulerConfig& c = world.config;
  out << "blocks " << c.num_blocks << " x " << c.block_tokens << ", seqs " << c.max_num_seqs
      << ", rows " << c.max_num_batched_tokens << " (beside answers " << c.max_num_prefill_tokens
      << "), logits " << c.max_logits << ", queue " << c.max_num_queued_reqs << "/"
      << c.max_num_queued_tokens << ", model len " << c.max_model_len << ", prefix caching "
      << c.enable_prefix_caching << ", policy "
      << (c.policy == SchedulingPolicy::kFcfs ? "fcfs" : "priority") << ", preemptions "
      << c.max_preemptions << ", wait steps " << c.wait_steps_max << ", hash bits "
      << world.hash_bits << ", vocabulary " << world.vocabulary << ", draft tokens "
      << c.max_draft_tokens << "\n";
  if (c.experts.num_experts > 1) {
    const ExpertConfig& e = c.experts;
    out << "experts " << e.num_experts << ", policy " << static_cast<int>(e.policy)
        << ", wait steps " << e.max_wait_steps << ", wait gaps " << e.max_wait_gaps
        << ", lookahead " << c.router_lookahead_tokens << ", step seqs " << c.max_num_step_seqs
        << ", cache bytes " << e.cache_bytes << ", eviction " << static_cast<int>(e.eviction)
        << ", prefetch " << e.prefetch << ", timed " << world.timed << ", units";
    for (const ExpertUnit& unit : e.units) out << " " << unit.owners << ":" << unit.bytes;
    out << "\n";
  }
  for (const Arrival& arrival : world.arrivals) {
    out << "before step " << arrival.step << ": " << ToString(arrival.request) << "\n";
  }
  for (const Fault& fault : world.faults) {
    out << "step " << fault.step << ": " << Name(fault.kind);
    if (fault.kind != FaultKind::kFailStep && fault.kind != FaultKind::kCancelAll) {
      out << " " << fault.id;
    }
    out << "\n";
  }
  return out.str();
}

}  // namespace pregate
