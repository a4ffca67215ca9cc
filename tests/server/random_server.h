// Everything below a front door, around a small random model.
#ifndef PREGATE_TESTS_SERVER_RANDOM_SERVER_H_
#define PREGATE_TESTS_SERVER_RANDOM_SERVER_H_

#include <memory>
#include <string>

#include "engine/engine_setup.h"
#include "server/generation/served_model.h"
#include "server/metrics/metrics.h"
#include "tests/model/random_model.h"

namespace pregate {

struct RandomServer {
  explicit RandomServer(const EngineOptions& options = {}, const RandomModelSpec& spec = {})
      : engine(MakeEngine(*SetUpEngine(MakeRandomModel(spec), options, nullptr))) {}

  std::unique_ptr<Engine> engine;
  Metrics metrics{engine.get(), "random", MetricsCompat::kNone};
  ServedModel model{engine.get(), &metrics, {.name = "random"}};
};

}  // namespace pregate

#endif  // PREGATE_TESTS_SERVER_RANDOM_SERVER_H_
