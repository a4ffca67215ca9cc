// encode_bench MODEL: how many texts a second an encoder's engine reads, without a front door.
// Texts of one length go in as batches, each when the one before has come out. Prints JSON, with
// one text's ids and its vector, so that a caller can see that others compute the same.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "engine/engine.h"

namespace pregate {
namespace {

struct Options {
  std::string model;
  int32_t tokens = 128;
  std::vector<int32_t> batches = {1, 32};
  double seconds = 3;
  EngineOptions engine;
};

// [CLS], ordinary words of BERT's vocabulary, [SEP]: others for each text.
std::vector<int32_t> TextIds(int32_t tokens, int32_t text) {
  std::vector<int32_t> ids = {101};
  for (int32_t i = 0; i < tokens - 2; ++i) ids.push_back(1996 + (i * 7919 + text * 104729) % 20000);
  ids.push_back(102);
  return ids;
}

// Reads a batch; returns the vectors, or nothing if a text could not be read.
std::vector<std::vector<float>> ReadBatch(Engine& engine, int32_t tokens, int32_t batch) {
  std::vector<std::vector<float>> vectors(static_cast<size_t>(batch));
  absl::BlockingCounter left(batch);
  for (int32_t i = 0; i < batch; ++i) {
    EncodingRequest request;
    request.ids = TextIds(tokens, i);
    const auto id = engine.Encode(std::move(request), [&vectors, &left, i](EncodingOutput output) {
      vectors[static_cast<size_t>(i)] = std::move(output.values);
      left.DecrementCount();
    });
    if (!id.ok()) {
      std::fprintf(stderr, "%s\n", id.status().ToString().c_str());
      left.DecrementCount();
    }
  }
  left.Wait();
  return vectors;
}

nlohmann::json Measure(Engine& engine, const Options& options) {
  using Clock = std::chrono::steady_clock;
  nlohmann::json rows = nlohmann::json::array();
  for (const int32_t batch : options.batches) {
    ReadBatch(engine, options.tokens, batch);  // memory is touched, clocks go up
    int64_t texts = 0;
    const Clock::time_point start = Clock::now();
    double seconds = 0;
    while (seconds < options.seconds) {
      ReadBatch(engine, options.tokens, batch);
      texts += batch;
      seconds = std::chrono::duration<double>(Clock::now() - start).count();
    }
    rows.push_back({{"batch", batch}, {"texts_per_s", static_cast<double>(texts) / seconds}});
  }
  return {{"device", engine.model().device},
          {"tokens", options.tokens},
          {"rows", rows},
          {"ids", TextIds(options.tokens, 0)},
          {"vector", ReadBatch(engine, options.tokens, 1)[0]}};
}

int Run(int argc, char** argv) {
  Options options;
  CLI::App app("Measures an encoder without a front door.");
  app.add_option("model", options.model)->required();
  app.add_option("--tokens", options.tokens, "of each text")->check(CLI::Range(2, 8192));
  app.add_option("--batches", options.batches, "texts at once")->delimiter(',');
  app.add_option("--seconds", options.seconds, "of each measurement");
  app.add_option("--threads", options.engine.threads);
  app.add_option("--dtype", options.engine.dtype);
  app.add_option("--max-num-batched-tokens", options.engine.max_num_batched_tokens);
  CLI11_PARSE(app, argc, argv);
  const auto engine = Engine::Create(options.model, options.engine);
  if (!engine.ok()) {
    std::fprintf(stderr, "%s\n", engine.status().ToString().c_str());
    return 1;
  }
  std::printf("%s\n", Measure(**engine, options).dump().c_str());
  return 0;
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) { return pregate::Run(argc, argv); }
