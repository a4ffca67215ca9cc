// The command line, the environment and the configuration file of `pregate`.
#include "server/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/config/config_file.h"
#include "server/config/flag_lists.h"
#include "server/config/help.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Environment = std::map<std::string, std::string>;

absl::StatusOr<Command> Parse(std::vector<const char*> words, Environment environment = {}) {
  words.insert(words.begin(), "pregate");
  return ParseCommandLine(static_cast<int>(words.size()), words.data(),
                          [&](const std::string& name) -> std::optional<std::string> {
                            const auto found = environment.find(name);
                            if (found == environment.end()) return std::nullopt;
                            return found->second;
                          });
}

ServeConfig ParseServe(std::vector<const char*> words, Environment environment = {}) {
  const absl::StatusOr<Command> command = Parse(std::move(words), std::move(environment));
  EXPECT_TRUE(command.ok()) << command.status();
  return command.ok() ? std::get<ServeConfig>(*command) : ServeConfig();
}

std::string Error(std::vector<const char*> words, Environment environment = {}) {
  const absl::StatusOr<Command> command = Parse(std::move(words), std::move(environment));
  EXPECT_EQ(command.status().code(), absl::StatusCode::kInvalidArgument) << words.back();
  return std::string(command.status().message());
}

std::string WriteYaml(const std::string& text) {
  static int count = 0;
  const std::string path = absl::StrCat(::testing::TempDir(), "config_test_", count++, ".yaml");
  std::ofstream(path) << text;
  return path;
}

std::vector<Flag> AllServeFlags() {
  static ServeConfig config;
  return ServeFlags(&config);
}

TEST(CommandLine, DefaultsAreThoseOfTheStruct) {
  const ServeConfig config = ParseServe({"serve", "m.gguf"});
  EXPECT_EQ(config.model, "m.gguf");
  EXPECT_EQ(config.host, "127.0.0.1");
  EXPECT_EQ(config.http_port, 8000);
  EXPECT_EQ(config.grpc_port, 8001);
  EXPECT_EQ(config.metrics_port, 8002);
  EXPECT_LT(config.health_port, 0);
  EXPECT_EQ(config.engine.max_num_seqs, 64);
  EXPECT_TRUE(config.engine.enable_prefix_caching);
  EXPECT_EQ(config.drain_timeout, absl::Seconds(30));
}

TEST(CommandLine, EveryServeFlagIsTaken) {
  const ServeConfig config = ParseServe({"serve",
                                         "dir",
                                         "--served-model-name",
                                         "smol",
                                         "--chat-template=t.jinja",
                                         "--host",
                                         "::1",
                                         "--port=7",
                                         "--grpc-port=0",
                                         "--metrics-port=9",
                                         "--health-port=10",
                                         "--reflection=off",
                                         "--metrics-compat=vllm",
                                         "--shutdown-delay=5",
                                         "--drain-timeout=1m30s",
                                         "--grpc-max-connection-age=10m",
                                         "--grpc-max-connection-age-grace=1h",
                                         "--overload-unready-after=20",
                                         "--log-format=json",
                                         "--max-model-len=128",
                                         "--max-num-seqs=3",
                                         "--max-num-batched-tokens=40",
                                         "--max-num-queued-reqs=7",
                                         "--max-num-queued-tokens=5000000000",
                                         "--kv-cache-memory=512MiB",
                                         "--no-enable-prefix-caching",
                                         "--scheduling-policy=priority",
                                         "--device=cpu",
                                         "--threads=2",
                                         "--dtype=float32",
                                         "--quantization=q4_1",
                                         "--router-lookahead-tokens=0",
                                         "--kv-cache-dtype=q8_0",
                                         "--record-trace=t.jsonl",
                                         "--seed=18446744073709551615"});
  EXPECT_EQ(config.served_model_name, "smol");
  EXPECT_EQ(config.chat_template, "t.jinja");
  EXPECT_EQ(config.host, "::1");
  EXPECT_EQ(config.http_port, 7);
  EXPECT_EQ(config.grpc_port, 0);
  EXPECT_EQ(config.metrics_port, 9);
  EXPECT_EQ(config.health_port, 10);
  EXPECT_EQ(config.reflection, Reflection::kOff);
  EXPECT_EQ(config.metrics_compat, MetricsCompat::kVllm);
  EXPECT_EQ(config.shutdown_delay, absl::Seconds(5));
  EXPECT_EQ(config.drain_timeout, absl::Seconds(90));
  EXPECT_EQ(config.grpc_max_connection_age, absl::Minutes(10));
  EXPECT_EQ(config.grpc_max_connection_age_grace, absl::Hours(1));
  EXPECT_EQ(config.overload_unready_after, absl::Seconds(20));
  EXPECT_EQ(config.log_format, LogFormat::kJson);
  EXPECT_EQ(config.engine.max_model_len, 128);
  EXPECT_EQ(config.engine.max_num_seqs, 3);
  EXPECT_EQ(config.engine.max_num_batched_tokens, 40);
  EXPECT_EQ(config.engine.max_num_queued_reqs, 7);
  EXPECT_EQ(config.engine.max_num_queued_tokens, 5000000000);
  EXPECT_EQ(config.engine.kv_cache_memory, int64_t{512} << 20);
  EXPECT_FALSE(config.engine.enable_prefix_caching);
  EXPECT_EQ(config.engine.scheduling_policy, "priority");
  EXPECT_EQ(config.engine.device, "cpu");
  EXPECT_EQ(config.engine.threads, 2);
  EXPECT_EQ(config.engine.dtype, "float32");
  EXPECT_EQ(config.engine.quantization, "q4_1");
  EXPECT_EQ(config.engine.router_lookahead_tokens, 0);
  EXPECT_EQ(config.engine.kv_cache_dtype, "q8_0");
  EXPECT_EQ(config.engine.record_trace, "t.jsonl");
  EXPECT_EQ(config.engine.seed, ~uint64_t{0});
}

TEST(CommandLine, GenerateAndInspect) {
  const absl::StatusOr<Command> command =
      Parse({"generate", "m.gguf", "-p", "- Hi", "--system", "Be brief", "--max-tokens", "5",
             "--temperature", "0.5", "--top-p", "0.9", "--top-k", "40", "--seed", "3"});
  ASSERT_TRUE(command.ok()) << command.status();
  const GenerateConfig& config = std::get<GenerateConfig>(*command);
  EXPECT_EQ(config.model, "m.gguf");
  EXPECT_EQ(config.prompt, "- Hi");
  EXPECT_EQ(config.system, "Be brief");
  EXPECT_EQ(config.max_tokens, 5);
  EXPECT_DOUBLE_EQ(config.temperature, 0.5);
  EXPECT_DOUBLE_EQ(config.top_p, 0.9);
  EXPECT_EQ(config.top_k, 40);
  EXPECT_EQ(config.seed, 3u);
  const absl::StatusOr<Command> inspect = Parse({"inspect", "m.gguf"});
  ASSERT_TRUE(inspect.ok());
  EXPECT_EQ(std::get<InspectConfig>(*inspect).model, "m.gguf");
  const absl::StatusOr<Command> bench =
      Parse({"bench", "m.gguf", "--batch-sizes", "1,8,32", "--json"});
  ASSERT_TRUE(bench.ok()) << bench.status();
  EXPECT_EQ(std::get<BenchConfig>(*bench).bench.batch_sizes, (std::vector<int32_t>{1, 8, 32}));
  EXPECT_EQ(std::get<BenchConfig>(*bench).bench.prompt_tokens, (std::vector<int32_t>{512}));
  EXPECT_TRUE(std::get<BenchConfig>(*bench).json);
  EXPECT_FALSE(Parse({"bench", "m.gguf", "--batch-sizes", "1,,3"}).ok());
  EXPECT_FALSE(Parse({"bench", "m.gguf", "--batch-sizes", "0"}).ok());
}

TEST(CommandLine, Simulate) {
  const absl::StatusOr<Command> command = Parse(
      {"simulate", "t.jsonl", "--policies", "auto,paper", "--experts-resident", "2,3",
       "--load=50,98", "--max-num-step-seqs=16", "--load-ms=170", "--no-pipelined", "--json"});
  ASSERT_TRUE(command.ok()) << command.status();
  const SimulationOptions& options = std::get<SimulateConfig>(*command).simulation;
  EXPECT_EQ(options.trace, "t.jsonl");
  EXPECT_EQ(options.policies, (std::vector<std::string>{"auto", "paper"}));
  EXPECT_EQ(options.experts_resident, (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(options.load, (std::vector<int32_t>{50, 98}));
  EXPECT_EQ(options.max_num_step_seqs, 16);
  EXPECT_LT(options.max_num_seqs, 0);
  EXPECT_DOUBLE_EQ(options.load_ms, 170);
  EXPECT_LT(options.step_ms, 0);
  EXPECT_FALSE(options.pipelined);
  EXPECT_TRUE(std::get<SimulateConfig>(*command).json);
  EXPECT_EQ(Error({"simulate", "t", "--policies", "auto,"}),
            "policies: must be some of auto, off, on, paper, decode-first, prefill-first; got "
            "auto,");
  EXPECT_THAT(Error({"simulate", "a", "b"}), StartsWith("TRACE: "));
}

TEST(CommandLine, FlagBeforeEnvironmentBeforeFile) {
  const std::string path = WriteYaml("max_num_seqs: 4\nthreads: 1\nhost: 10.0.0.1\n");
  const Environment environment = {{"PREGATE_MAX_NUM_SEQS", "5"}, {"PREGATE_THREADS", "2"}};
  const ServeConfig config =
      ParseServe({"serve", "m", "--max-num-seqs", "6", "--config", path.c_str()}, environment);
  EXPECT_EQ(config.engine.max_num_seqs, 6);  // of 6, 5, 4
  EXPECT_EQ(config.engine.threads, 2);       // of 2, 1
  EXPECT_EQ(config.host, "10.0.0.1");
  EXPECT_EQ(config.grpc_port, 8001);
}

TEST(CommandLine, TheLastOfARepeatedFlagWins) {
  EXPECT_EQ(ParseServe({"serve", "m", "--threads", "1", "--threads", "2"}).engine.threads, 2);
  EXPECT_TRUE(ParseServe({"serve", "m", "--no-enable-prefix-caching", "--enable-prefix-caching"})
                  .engine.enable_prefix_caching);
}

TEST(CommandLine, ModelAndFileMayComeFromTheEnvironment) {
  const std::string path = WriteYaml("model: file.gguf\nenable-prefix-caching: off\n");
  ServeConfig config = ParseServe({"serve"}, {{"PREGATE_CONFIG", path}});
  EXPECT_EQ(config.model, "file.gguf");
  EXPECT_FALSE(config.engine.enable_prefix_caching);
  config = ParseServe({"serve"}, {{"PREGATE_CONFIG", path}, {"PREGATE_MODEL", "env.gguf"}});
  EXPECT_EQ(config.model, "env.gguf");
}

TEST(CommandLine, BadValuesAreNamed) {
  EXPECT_EQ(Error({"serve", "m", "--max-num-seqs", "0"}),
            "max-num-seqs: must be a whole number in [1, 4096]; got 0");
  EXPECT_EQ(Error({"serve", "m", "--max-num-seqs", "many"}),
            "max-num-seqs: must be a whole number in [1, 4096]; got many");
  EXPECT_EQ(Error({"serve", "m", "--max-num-seqs", "-3"}),
            "max-num-seqs: must be a whole number in [1, 4096]; got -3");
  EXPECT_EQ(Error({"serve", "m", "--grpc-port", "65536"}),
            "grpc-port: must be a whole number in [0, 65535]; got 65536");
  EXPECT_EQ(Error({"serve", "m", "--kv-cache-memory", "2X"}),
            "kv-cache-memory: must be a size such as 512MiB or 2G; got 2X");
  EXPECT_EQ(Error({"serve", "m", "--kv-cache-memory", "9999999999G"}),
            "kv-cache-memory: must be a size such as 512MiB or 2G; got 9999999999G");
  EXPECT_EQ(Error({"serve", "m", "--drain-timeout", "nan"}),
            "drain-timeout: must be a time in [0s, 24h]; got nan");
  EXPECT_EQ(Error({"serve", "m", "--device", "tpu"}),
            "device: must be auto or cpu or cuda; got tpu");
  EXPECT_EQ(Error({"serve", "m", "--host", ""}), "host: must be not empty; got \"\"");
  EXPECT_EQ(Error({"serve", "m"}, {{"PREGATE_THREADS", "x\n"}}),
            "threads: must be a whole number in [1, 4096]; got x\\n (from PREGATE_THREADS)");
  EXPECT_EQ(Error({"generate", "m", "-p", "x", "--temperature", "nan"}),
            "temperature: must be a number in [0, 2]; got nan");
  EXPECT_EQ(Error({"serve", "m", "--grpc-port", "9000", "--metrics-port", "9000"}),
            "metrics-port: must differ from grpc-port; got 9000");
  EXPECT_EQ(Error({"serve", "m", "--health-port", "8002"}),
            "health-port: must differ from metrics-port; got 8002");
  EXPECT_EQ(Error({"serve", "m", "--grpc-port", "8000"}),
            "grpc-port: must differ from port; got 8000");
  EXPECT_EQ(Error({"serve", "m", "--max-num-batched-tokens", "8"}),
            "max-num-batched-tokens: must be at least max-num-seqs (64); got 8");
  EXPECT_EQ(Error({"generate", "m"}), "prompt: must be given; got none");
  EXPECT_EQ(Error({"serve"}), "MODEL: must be given; got none");
}

TEST(CommandLine, UnknownWordsAreNamedWithTheirNeighbours) {
  EXPECT_EQ(Error({"serve", "m", "--max-num-seq", "4"}),
            "max-num-seq: unknown flag; did you mean max-num-seqs?");
  EXPECT_EQ(Error({"serve", "m", "--prot=4"}), "prot: unknown flag; did you mean port?");
  EXPECT_EQ(Error({"serve", "m", "n"}), "MODEL: must be one path; got n as well");
  EXPECT_THAT(
      Error({"serv", "m"}),
      StartsWith("command: must be one of serve, chat, generate, embed, bench, inspect, simulate, "
                 "completion; got serv\n"));
  EXPECT_THAT(Error({"serve", "m", "--threads"}), HasSubstr("--threads"));
}

TEST(CommandLine, NoCommandShowsTheUsage) {
  const char* words[] = {"pregate"};
  EXPECT_THAT(ParseCommandLine(1, words, ProcessEnv).status().message(),
              HasSubstr("pregate serve MODEL"));
  EXPECT_FALSE(ParseCommandLine(0, nullptr, ProcessEnv).ok());
}

TEST(CommandLine, HelpFitsAScreen) {
  for (std::vector<const char*> words : {std::vector<const char*>{"--help"},
                                         {"serve", "--help"},
                                         {"chat", "--help"},
                                         {"generate", "-h"},
                                         {"embed", "--help"},
                                         {"bench", "--help"},
                                         {"inspect", "--help"},
                                         {"simulate", "--help"},
                                         {"completion", "--help"}}) {
    const absl::StatusOr<Command> command = Parse(words);
    ASSERT_TRUE(command.ok()) << command.status();
    const std::string& text = std::get<PrintAndExit>(*command).text;
    const std::vector<std::string> lines = absl::StrSplit(text, '\n');
    EXPECT_LE(lines.size(), 41u) << text;  // the last one is empty
    for (const std::string& line : lines) EXPECT_LE(line.size(), 100u) << line;
  }
  const auto text_of = [](std::vector<const char*> words) {
    return std::get<PrintAndExit>(*Parse(std::move(words))).text;
  };
  const std::string some = text_of({"serve", "--help"}), all = text_of({"serve", "--help-all"});
  int rare = 0;
  for (const Flag& flag : AllServeFlags()) {
    if (flag.name == kModelFlag) continue;
    const std::string line = absl::StrCat("  ", SpellingOf(flag), " ");
    EXPECT_THAT(all, HasSubstr(line));
    EXPECT_EQ(absl::StrContains(some, line), !flag.rarely_needed) << flag.name;
    rare += flag.rarely_needed;
  }
  EXPECT_THAT(some, HasSubstr(absl::StrCat("`pregate serve --help-all` lists ", rare, " more.\n")));
  for (absl::string_view line : absl::StrSplit(all, '\n')) EXPECT_LE(line.size(), 100u) << line;
  EXPECT_THAT(std::get<PrintAndExit>(*Parse({"--version"})).text, StartsWith("pregate "));
}

TEST(ConfigFile, ScalarsOfAllSpellings) {
  const absl::StatusOr<std::map<std::string, std::string>> values = ParseConfigYaml(
      "# comment\nmax-num-seqs: 8\n\"host\": '0.0.0.0'\nserved_model_name: &n \"a: b\"\n"
      "chat_template: *n\nreflection: on\n",
      AllServeFlags());
  ASSERT_TRUE(values.ok()) << values.status();
  const std::map<std::string, std::string> expected = {{"max-num-seqs", "8"},
                                                       {"host", "0.0.0.0"},
                                                       {"served-model-name", "a: b"},
                                                       {"chat-template", "a: b"},
                                                       {"reflection", "on"}};
  EXPECT_EQ(*values, expected);
  EXPECT_TRUE(ParseConfigYaml("", AllServeFlags()).ok());
}

TEST(ConfigFile, RefusesWhatIsNotAMapOfFlags) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"max_num_seq: 3",
       "max-num-seq: unknown key in the configuration file; did you mean "
       "max-num-seqs?"},
      {"threads: [1, 2]", "threads: must have one value; got a list"},
      {"threads: {a: 1}", "threads: must have one value; got a map"},
      {"threads:", "threads: must have one value; got nothing"},
      {"threads: 1\nthreads: 2",
       "threads: must stand once in the configuration file; got it twice"},
      {"max-num-seqs: 1\nmax_num_seqs: 2",
       "max-num-seqs: must stand once in the configuration file; got it twice"},
      {"[threads]", "config: must be a map of flags; got a list"},
      {"threads", "config: must be a map of flags; got a value"},
      {"[a, b]: 1", "config: keys must be names of flags; got a list"},
      {"config: other.yaml", "config: unknown key in the configuration file"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_EQ(ParseConfigYaml(text, AllServeFlags()).status().message(), message) << text;
  }
  EXPECT_THAT(std::string(ParseConfigYaml("a: b: c", AllServeFlags()).status().message()),
              StartsWith("config: must be YAML; got "));
}

TEST(ConfigFile, ValuesKeepTheirRules) {
  const std::string path = WriteYaml("threads: 0\n");
  EXPECT_EQ(Error({"serve", "m", "--config", path.c_str()}),
            absl::StrCat("threads: must be a whole number in [1, 4096]; got 0 (from ", path, ")"));
  EXPECT_THAT(Error({"serve", "m", "--config", "/nowhere.yaml"}),
              StartsWith("config: must name a readable file; got /nowhere.yaml"));
}

TEST(ConfigFile, HostileText) {
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c <= 'p'; ++c) {
    absl::StrAppend(&bomb, std::string(1, c), ": &", std::string(1, c), " [");
    for (int i = 0; i < 9; ++i) absl::StrAppend(&bomb, "*", std::string(1, c - 1), ",");
    absl::StrAppend(&bomb, "]\n");
  }
  const std::vector<std::string> texts = {
      bomb,
      std::string(1 << 20, '['),
      std::string(1 << 20, '{'),
      std::string((1 << 20) + 1, 'a'),
      std::string(1 << 20, '\0'),
      std::string(100000, '-') + " a",
      "threads: " + std::string(500000, '9'),
      "\xff\xfe\x00",
      "&a a: *a",
      "*nothing: 1",
      "--- a\n--- b\n",
      "%TAG ! tag:x,2000:\n---\n!b c: d",
  };
  for (const std::string& text : texts) {
    const absl::StatusOr<std::map<std::string, std::string>> values =
        ParseConfigYaml(text, AllServeFlags());
    if (!values.ok()) {
      EXPECT_EQ(values.status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_LT(values.status().message().size(), 300u);
    }
  }
}

TEST(ConfigFile, RandomMutationsEndInAStatus) {
  const std::string seed_text =
      "max-num-seqs: 8\nhost: '0.0.0.0'\nname: &n \"a\\tb\"\nlist: [1, {a: *n}]\n? x\n: |-\n  y\n";
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    std::string text = seed_text;
    const int edits = 1 + static_cast<int>(random() % 6);
    for (int i = 0; i < edits; ++i) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.insert(at, 1, "[]{}:-?&*!|>'\"%@`#,\n \t"[random() % 21]);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 30));
      }
    }
    const auto values = ParseConfigYaml(text, AllServeFlags());
    if (values.ok()) continue;
    EXPECT_EQ(values.status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(FlagsMarkdown, ReadmeCarriesIt) {
  std::ifstream file("README.md");
  std::stringstream text;
  text << file.rdbuf();
  const std::string readme = text.str();
  const std::string begin = "<!-- flags -->\n";
  const size_t from = readme.find(begin);
  const size_t to = readme.find("<!-- /flags -->");
  ASSERT_NE(from, std::string::npos) << begin;
  ASSERT_NE(to, std::string::npos);
  const std::string section = readme.substr(from + begin.size(), to - from - begin.size());
  EXPECT_EQ(section, FlagsMarkdown()) << "put this table there:\n" << FlagsMarkdown();
}

}  // namespace
}  // namespace pregate
