// The binary as its user meets it: what it prints, what it complains about, how it exits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/pregate_command.h"

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A name that no terminal and no JSON should be handed as it is.
std::string HostileModel() {
  GgufWriter writer = MakeTinyGguf({});
  writer.SetString("general.name", "a\x1b[2J\n\"b");
  return WriteFile("hostile.gguf", writer.Build());
}

TEST(Commands, BadUsageIsOneLine) {
  for (const std::string& words :
       {std::string("generate"),
        std::string("generate m.gguf"),
        std::string("serve"),
        std::string("inspect"),
        std::string("inspect a b"),
        std::string("bench m --no-such-flag"),
        std::string("generate m -p x --temperature 3"),
        std::string("bench m --batch-sizes 0"),
        std::string("simulate"),
        std::string("simulate synthetic --policies best"),
        std::string("simulate synthetic --replay"),
        std::string("simulate a b"),
        std::string("simulate synthetic --experts-resident 8"),
        std::string("simulate synthetic --tied --experts 8"),
        std::string("simulate synthetic --clients 3 --load 90"),
        std::string("simulate /nonexistent"),
        std::string("generate m -p x --raw --system y"),
        std::string("serve m --grpc-port 70000"),
        std::string("chat"),
        std::string("chat m -p x"),
        std::string("embed m"),
        std::string("completion"),
        std::string("completion tcsh"),
        std::string("embed m -p x --pooling max"),
        absl::StrCat("generate ", TinyModel(), " -p x --chat-template /nonexistent")}) {
    ExpectOneLineOfError(Pregate(words), words);
  }
  EXPECT_EQ(Pregate("").exit_status, 2);
  EXPECT_THAT(Pregate("frobnicate").err, HasSubstr("frobnicate"));
}

TEST(Commands, AGpuThatIsNotThereIsOneLine) {
  const Outcome outcome = Pregate(absl::StrCat("generate ", TinyModel(), " -p x --device cuda"),
                                  "env PREGATE_CUDA_MODULE=/nonexistent");
  ExpectOneLineOfError(outcome, "no module");
  EXPECT_THAT(outcome.err, HasSubstr("device: the CUDA module cannot be loaded: /nonexistent"));
}

TEST(Commands, ModelsThatCannotBeReadAreOneLine) {
  const std::string tiny = ReadFile(TinyModel());
  for (const std::string& model :
       {std::string("/nonexistent"), std::string("/"), ::testing::TempDir(),
        WriteFile("empty.gguf", ""), WriteFile("garbage.gguf", std::string(5000, '\x7f')),
        WriteFile("cut.gguf", tiny.substr(0, tiny.size() / 2)),
        WriteFile("cut_header.gguf", tiny.substr(0, 100))}) {
    for (const char* words :
         {"inspect ", "bench --repetitions 1 ", "generate -p x ", "chat ", "embed -p x "}) {
      ExpectOneLineOfError(Pregate(words + model), words + model);
    }
  }
}

TEST(Commands, HelpAndVersionGoToStandardOutput) {
  for (const char* words : {"--help", "--version", "serve --help", "generate --help", "inspect -h",
                            "bench --help", "simulate --help", "chat --help", "embed --help",
                            "completion --help", "serve --help-all"}) {
    const Outcome outcome = Pregate(words);
    EXPECT_EQ(outcome.exit_status, 0) << words;
    EXPECT_THAT(outcome.out, StartsWith("pregate")) << words;
    EXPECT_EQ(outcome.err, "") << words;
  }
}

TEST(Inspect, DescribesTheModel) {
  const Outcome outcome = Pregate("inspect " + TinyModel());
  EXPECT_EQ(outcome.exit_status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("llama"), HasSubstr("token_embd.weight"),
                                 HasSubstr("blk.1.ffn_down.weight"), EndsWith("\n")));
}

TEST(Inspect, NamesFromTheFileAreEscaped) {
  const Outcome outcome = Pregate("inspect " + HostileModel());
  EXPECT_EQ(outcome.exit_status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("a\\x1b[2J\\n\\\"b"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("\x1b")));
}

constexpr char kShortBench[] =
    "--prompt-tokens 8,16 --batch-sizes 1,2 --decode-tokens 4 "
    "--repetitions 2 --device cpu ";

TEST(Bench, WaitsForItsTurns) {
  const Outcome outcome =
      Pregate(absl::StrCat("bench --json --by-turns ", kShortBench, HostileModel()), "", "\n\n");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.err;
  std::string turns;
  for (int i = 0; i < 4 * 2; ++i) absl::StrAppend(&turns, "ready\n");
  ASSERT_THAT(outcome.out, StartsWith(absl::StrCat(turns, "{")));
  EXPECT_EQ(nlohmann::json::parse(outcome.out.substr(turns.size()))["rows"].size(), 4);
}

TEST(Bench, JsonIsWellFormed) {
  const Outcome outcome = Pregate(absl::StrCat("bench --json ", kShortBench, HostileModel()));
  ASSERT_EQ(outcome.exit_status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  const nlohmann::json report = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(report["model"]["name"], "a\x1b[2J\n\"b");
  EXPECT_EQ(report["model"]["architecture"], "llama");
  EXPECT_GT(report["model"]["num_parameters"], 1000);
  EXPECT_GT(report["read_bytes_per_s"], 1e8);
  EXPECT_GT(report["int8_ops_per_s"], 1e8);
  ASSERT_EQ(report["rows"].size(), 4);
  std::vector<std::pair<int, int>> cells;
  for (const nlohmann::json& row : report["rows"]) {
    cells.emplace_back(row["prompt_tokens"], row["batch_size"]);
    EXPECT_GT(row["prefill_tokens_per_s"], 0);
    EXPECT_GT(row["decode_tokens_per_s"], 0);
    EXPECT_GT(row["decode_bytes_per_s"], 0);
    EXPECT_GT(row["prefill_ops_per_s"], 0);
  }
  EXPECT_THAT(cells, ::testing::UnorderedElementsAre(std::pair(8, 1), std::pair(8, 2),
                                                     std::pair(16, 1), std::pair(16, 2)));
}

TEST(Bench, TableHasARowForEachCell) {
  const Outcome outcome = Pregate(absl::StrCat("bench ", kShortBench, TinyModel()));
  ASSERT_EQ(outcome.exit_status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("decode tok/s"), HasSubstr("\n     16      2 ")));
}

constexpr char kShortSimulation[] = "simulate synthetic --requests 100 --max-num-seqs 8 ";

TEST(Simulate, JsonHasARowForEachRun) {
  const Outcome outcome = Pregate(absl::StrCat(
      kShortSimulation, "--experts-resident 2,7 --policies off,on --load 50,90 --json"));
  ASSERT_EQ(outcome.exit_status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  const nlohmann::json report = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(report["experts"], 7);
  EXPECT_GT(report["capacity_requests_per_s"], 0);
  EXPECT_DOUBLE_EQ(report["machine"]["load_ms"], 40);
  ASSERT_EQ(report["rows"].size(), 8);
  for (const nlohmann::json& row : report["rows"]) {
    EXPECT_EQ(row["requests"], 90);
    EXPECT_EQ(row["broken"], "");
    EXPECT_GT(row["end_to_end_s"]["p95"], row["end_to_end_s"]["mean"]);
    const bool fits = row["experts_resident"] == 7;
    EXPECT_EQ(row["hit_ratio"] == 1, fits);
    EXPECT_EQ(row["load_bytes"] == 0, fits);
  }
  EXPECT_EQ(report["rows"][7]["policy"], "on");
  EXPECT_EQ(report["rows"][7]["load_percent"], 90);
}

// By hand: 32 sequences a step of 31 ms, 0.03 ms a row and 2.5 ms for each of 7 experts, however
// few the requests are beside those that are there at the end.
TEST(Simulate, CapacityIsThatOfFullSteps) {
  const Outcome outcome = Pregate(
      "simulate synthetic --requests 400 --max-num-seqs 96 --max-num-step-seqs 32 --load 100 "
      "--policies off --warm-up-requests 0 --json");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.err;
  const nlohmann::json report = nlohmann::json::parse(outcome.out);
  const nlohmann::json& row = report["rows"][0];
  const double answer = row["tokens"].get<double>() / row["requests"].get<double>();
  const double tokens_per_s = answer * report["capacity_requests_per_s"].get<double>();
  EXPECT_NEAR(tokens_per_s, 32 / (31e-3 + 43 * 0.03e-3 + 7 * 2.5e-3), 0.03 * tokens_per_s);
}

TEST(Simulate, TiedExpertsCostLessThanCopies) {
  const std::string words =
      absl::StrCat(kShortSimulation, "--policies off --step-ms 0 --row-ms 0 --json");
  const auto tokens_per_s = [](const Outcome& outcome) {
    EXPECT_EQ(outcome.exit_status, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out)["rows"][0]["tokens_per_s"].get<double>();
  };
  const double copies = tokens_per_s(Pregate(words));
  const double tied = tokens_per_s(Pregate(words + " --tied"));
  EXPECT_GT(tied, 2 * copies);
  EXPECT_LT(tied, 7 * copies);
}

TEST(Simulate, TablesShowEveryPolicyTheSameWayEachTime) {
  const std::string words = absl::StrCat(kShortSimulation, "--experts-resident 4");
  const Outcome outcome = Pregate(words);
  ASSERT_EQ(outcome.exit_status, 0) << outcome.err;
  for (const char* policy : {"auto", "off", "on", "paper", "decode-first", "prefill-first"}) {
    EXPECT_THAT(outcome.out, HasSubstr(absl::StrCat("\n", policy, " "))) << policy;
  }
  EXPECT_EQ(Pregate(words).out, outcome.out);
  EXPECT_NE(Pregate(words + " --seed 2").out, outcome.out);
}

// By hand: no router, a prompt in one step of 10 ms, then four tokens of one step each.
TEST(Simulate, TracesCanBeWrittenByHand) {
  const std::string trace =
      WriteFile("by_hand.jsonl",
                "{\"pregate_trace\":1,\"experts\":1}\n"
                "{\"request\":1,\"arrival\":2,\"prompt\":3,\"experts\":\"00000000\"}\n");
  const std::string words =
      absl::StrCat("simulate ", trace, " --step-ms 10 --row-ms 0 --expert-ms 0 --json");
  const Outcome outcome = Pregate(words);
  ASSERT_EQ(outcome.exit_status, 0) << outcome.err;
  const nlohmann::json report = nlohmann::json::parse(outcome.out);
  ASSERT_EQ(report["rows"].size(), 1);
  EXPECT_EQ(report["rows"][0]["tokens"], 5);
  EXPECT_NEAR(report["rows"][0]["end_to_end_s"]["mean"], 0.05, 1e-9);
  ExpectOneLineOfError(Pregate("simulate " + trace), "a machine that nobody knows");
  ExpectOneLineOfError(Pregate("simulate --replay " + trace), "no steps");
}

TEST(Simulate, DamagedTracesAreRefusedWithTheLine) {
  const std::string header = "{\"pregate_trace\":1,\"experts\":7}\n";
  const std::string request = "{\"request\":1,\"prompt\":1,\"experts\":\"00\"}\n";
  for (const auto& [text, where] : std::vector<std::pair<std::string, std::string>>{
           {header + request + "{\"request\":2,\"prompt\"\n", "line 3: "},
           {header + "{\"server\":1}\n" + request, "line 2: max_num_seqs"},
           {request, "line 1: pregate_trace"},
           {header + request + request, "request: "},
           {header, "must hold a request"},
           {header + request + "{\"step\":0,\"experts\":\"0\",\"loaded\":[7],\"load_seconds\":[1]}",
            "loaded"}}) {
    const Outcome outcome = Pregate("simulate --step-ms 1 --row-ms 1 --expert-ms 1 " +
                                    WriteFile("damaged.jsonl", text));
    ExpectOneLineOfError(outcome, text);
    EXPECT_THAT(outcome.err, HasSubstr(where));
  }
}

}  // namespace
}  // namespace pregate
