#include "load_tests/loadgen/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

constexpr double kMaxRequests = 1e6;
constexpr int kMaxConcurrency = 1024;
constexpr char kDescription[] =
    "Sends a load to a Pregate server (or to llama-server) and measures what its clients see.\n"
    "\n"
    "Open loop (--rate or --trace): requests go out at times decided before the run, and "
    "latencies\n"
    "count from those times, so that a slow server cannot slow its own load down. Closed loop\n"
    "(--concurrency): a note on peak throughput; its latencies say nothing about a server under a\n"
    "given load. Exit status: 1 the run failed, 2 bad usage, 3 the generator was late itself.\n";

// A number in [low, high]; CLI::Range would let NaN through.
CLI::Validator Between(double low, double high) {
  return CLI::Validator(
      [low, high](const std::string& text) {
        double value = 0;
        const bool in = absl::SimpleAtod(text, &value) && value >= low && value <= high;
        return in ? "" : absl::StrCat("must be in [", low, ", ", high, "]; got ", text);
      },
      "");
}

void AddLoadFlags(CLI::App& app, Options& options, std::string& prompt, std::string& answer) {
  SyntheticLoad& load = options.synthetic;
  const CLI::Validator positive = Between(1e-6, 1e6);
  CLI::Option* rate = app.add_option("--rate", load.rate, "open loop: requests a second");
  rate->check(positive);
  app.add_option("--burstiness", load.burstiness,
                 "deviation of the gaps over their mean: 1 is Poisson, 3 comes in bursts")
      ->check(Between(0.01, 10.0))
      ->needs(rate);
  CLI::Option* trace = app.add_option("--trace", options.trace_path,
                                      "open loop: a CSV in the format of the Azure LLM inference "
                                      "trace 2023");
  trace->check(CLI::ExistingFile)->excludes(rate);
  app.add_option("--trace-speed", options.trace.speed, "2: twice as fast as recorded")
      ->check(positive)
      ->needs(trace);
  app.add_option("--trace-length-scale", options.trace.length_scale,
                 "0.25: prompts and answers a quarter as long")
      ->check(positive)
      ->needs(trace);
  CLI::Option* clients =
      app.add_option("--concurrency", options.concurrency, "closed loop: number of clients");
  clients->check(CLI::Range(1, kMaxConcurrency))->excludes(rate)->excludes(trace);
  app.add_option("--requests", options.requests, "closed loop: requests in all")
      ->check(CLI::Range(int64_t{1}, static_cast<int64_t>(kMaxRequests)))
      ->needs(clients);
  app.add_flag("--midway", options.midway,
               "closed loop: begins as if it had gone on for long, with the ends of answers")
      ->needs(clients);
  app.add_option("--duration", load.duration_s,
                 "open loop: seconds; if not given 10, or the whole trace")
      ->check(positive)
      ->excludes(clients);
  app.add_option("--prompt-tokens", prompt, "N or LOW:HIGH")->excludes(trace);
  app.add_option("--max-tokens", answer, "of an answer; N or LOW:HIGH")->excludes(trace);
}

void AddOtherFlags(CLI::App& app, Options& options) {
  app.add_option("--server", options.client.address, "HOST:PORT");
  CLI::Option* llama_server = app.add_flag_callback(
      "--llama-server", [&options] { options.protocol = Protocol::kLlamaServer; },
      "the server is llama.cpp's llama-server: the same load over HTTP");
  app.add_flag_callback(
         "--openai", [&options] { options.protocol = Protocol::kOpenAi; },
         "the server, of whatever kind, has OpenAI's /v1/completions: the same load over HTTP")
      ->excludes(llama_server);
  app.add_option("--connections", options.client.connections, "requests take turns on them")
      ->check(CLI::Range(1, 64));
  app.add_option("--timeout", options.client.timeout_s, "seconds for one request")
      ->check(Between(0.001, 3600.0));
  app.add_flag("--kernel-times", options.client.kernel_times,
               "tokens come when they reach the socket, not when they are read; over gRPC by "
               "frames of HTTP/2, without gRPC's library");
  app.add_option_function<double>(
         "--nap", [&options](double ms) { options.client.nap_s = 1e-3 * ms; },
         "milliseconds of rest after each connection that was read (over HTTP, each 64): never "
         "long on a core at a stretch")
      ->check(Between(0.0, 999.0))
      ->needs(app.get_option("--kernel-times"));
  app.add_flag("--go-last", options.go_last,
               "at the lowest priority, not the highest: what the server needs it has first");
  app.add_option("--wait", options.wait_s, "seconds for the server to answer at all")
      ->check(Between(0.0, 3600.0));
  app.add_option("--shared-prefix", options.shared_prefix,
                 "share of each prompt that all prompts begin with")
      ->check(Between(0.0, 1.0));
  app.add_option("--text", options.text_path,
                 "prompts are pieces of this file (at most 4 MiB), not random ids")
      ->check(CLI::ExistingFile)
      ->excludes(app.get_option("--llama-server"))
      ->excludes(app.get_option("--openai"));
  app.add_option("--seed", options.synthetic.seed, "of times, lengths and prompts");
  app.add_option("--ttft-limit", options.ttft_limit_ms, "goodput: milliseconds to the first token")
      ->check(Between(0, 1e9));
  app.add_option("--itl-limit", options.itl_limit_ms,
                 "goodput: milliseconds between tokens, the mean of a request")
      ->check(Between(0, 1e9));
  app.add_option("--label", options.label, "name of the run in a picture");
  app.add_option("--json", options.json_path, "file for the whole result");
}

const char* NameOf(Protocol protocol) {
  switch (protocol) {
    case Protocol::kPregate:
      return "pregate";
    case Protocol::kLlamaServer:
      return "llama-server";
    case Protocol::kOpenAi:
      return "openai";
  }
  return "";
}

const char* NameOf(LoadKind kind) {
  switch (kind) {
    case LoadKind::kSynthetic:
      return "open loop";
    case LoadKind::kTrace:
      return "open loop, trace";
    case LoadKind::kClosed:
      return "closed loop";
  }
  return "";
}

std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

absl::StatusOr<std::optional<Options>> ParseOptions(int argc, const char* const* argv) {
  Options options;
  options.client.address = "127.0.0.1:8001";
  options.client.timeout_s = 120;
  options.synthetic.duration_s = 0;
  std::string prompt = "64", answer = "64";
  CLI::App app(kDescription, "loadgen");
  app.option_defaults()->always_capture_default();
  AddLoadFlags(app, options, prompt, answer);
  AddOtherFlags(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(error.what());
  }
  if (options.concurrency > 0) {
    options.kind = LoadKind::kClosed;
  } else if (!options.trace_path.empty()) {
    options.kind = LoadKind::kTrace;
  } else if (app.count("--rate") == 0) {
    return absl::InvalidArgumentError("one of --rate, --trace and --concurrency is required");
  }
  if (options.kind == LoadKind::kTrace) options.trace.duration_s = options.synthetic.duration_s;
  if (options.synthetic.duration_s == 0) options.synthetic.duration_s = 10;
  if (options.kind == LoadKind::kSynthetic &&
      options.synthetic.rate * options.synthetic.duration_s > kMaxRequests) {
    return absl::InvalidArgumentError("--rate times --duration: must be at most a million");
  }
  for (auto [text, range] : {std::pair{&prompt, &options.synthetic.prompt_tokens},
                             std::pair{&answer, &options.synthetic.max_tokens}}) {
    const absl::StatusOr<LengthRange> parsed = ParseLengthRange(*text);
    if (!parsed.ok()) return parsed.status();
    *range = *parsed;
  }
  return options;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  return text;
}

absl::StatusOr<Load> MakeLoad(const Options& options, uint32_t max_model_len) {
  if (options.kind == LoadKind::kTrace) {
    const absl::StatusOr<std::string> csv = ReadFile(options.trace_path);
    if (!csv.ok()) return csv.status();
    TraceOptions trace = options.trace;
    trace.max_max_tokens = std::max<int32_t>(1, static_cast<int32_t>(max_model_len) / 4);
    trace.max_prompt_tokens =
        std::max<int32_t>(1, static_cast<int32_t>(max_model_len) - trace.max_max_tokens);
    absl::StatusOr<std::vector<Arrival>> arrivals = ParseTrace(*csv, trace);
    if (!arrivals.ok()) return arrivals.status();
    return Load{*std::move(arrivals), 0};
  }
  const SyntheticLoad& load = options.synthetic;
  if (int64_t{load.prompt_tokens.high} + load.max_tokens.high > max_model_len) {
    return absl::InvalidArgumentError(
        absl::StrCat("--prompt-tokens and --max-tokens: must be at most ", max_model_len,
                     " together; got ", load.prompt_tokens.high, " + ", load.max_tokens.high));
  }
  if (options.kind == LoadKind::kClosed) {
    std::vector<Arrival> requests = MakeRequests(load, options.requests);
    if (options.midway) BeginMidway(load, options.concurrency, &requests);
    return Load{std::move(requests), options.concurrency};
  }
  return Load{MakeArrivals(load), 0};
}

std::string SettingsJson(const Options& options, const ServerInfo& server) {
  nlohmann::ordered_json json = {{"label", options.label},
                                 {"protocol", NameOf(options.protocol)},
                                 {"model", server.model},
                                 {"load", NameOf(options.kind)},
                                 {"seed", options.synthetic.seed},
                                 {"shared_prefix", options.shared_prefix},
                                 {"text", options.text_path},
                                 {"ttft_limit_ms", options.ttft_limit_ms},
                                 {"itl_limit_ms", options.itl_limit_ms},
                                 {"timeout_s", options.client.timeout_s},
                                 {"connections", options.client.connections},
                                 {"kernel_times", options.client.kernel_times},
                                 {"nap_s", options.client.nap_s},
                                 {"go_last", options.go_last}};
  if (options.kind == LoadKind::kTrace) {
    json["trace"] = std::filesystem::path(options.trace_path).filename().string();
    json["trace_speed"] = options.trace.speed;
    json["trace_length_scale"] = options.trace.length_scale;
    return Dump(json);
  }
  const SyntheticLoad& load = options.synthetic;
  json["prompt_tokens"] = {load.prompt_tokens.low, load.prompt_tokens.high};
  json["max_tokens"] = {load.max_tokens.low, load.max_tokens.high};
  if (options.kind == LoadKind::kClosed) {
    json["concurrency"] = options.concurrency;
  } else {
    json["rate"] = load.rate;
    json["burstiness"] = load.burstiness;
    json["duration_s"] = load.duration_s;
  }
  return Dump(json);
}

}  // namespace pregate
