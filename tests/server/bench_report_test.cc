// The table and the JSON of `pregate bench`, with the host's roof and of a device that has none.
#include "server/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace pregate {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

BenchReport MakeReport() {
  BenchReport report;
  report.model.architecture = "llama";
  report.model.device = "somewhere";
  BenchRow row;
  row.prompt_tokens = 512;
  row.batch_size = 16;
  row.prefill_tokens_per_s = 1000;
  row.decode_tokens_per_s = 100;
  row.decode_bytes_per_s = 15e9;
  row.prefill_ops_per_s = 50e9;
  report.rows.push_back(row);
  return report;
}

TEST(BenchReport, FiguresAreSharesOfTheRoof) {
  BenchReport report = MakeReport();
  report.read_bytes_per_s = 20e9;
  report.fma_flops_per_s = 80e9;
  report.int8_ops_per_s = 200e9;
  EXPECT_THAT(BenchTable(report),
              AllOf(HasSubstr("measured here: read 20.0 GB/s, fp32 80 GFLOP/s, int8 200 GOP/s\n"),
                    HasSubstr("        50      25%         100.0       15.0      75%\n")));
  EXPECT_EQ(nlohmann::json::parse(BenchJson(report))["read_bytes_per_s"], 20e9);
}

TEST(BenchReport, WithoutARoofThereAreNoShares) {
  const std::string table = BenchTable(MakeReport());
  EXPECT_THAT(table, Not(HasSubstr("measured here")));
  EXPECT_THAT(table, HasSubstr("        50        -         100.0       15.0        -\n"));
  const nlohmann::json json = nlohmann::json::parse(BenchJson(MakeReport()));
  EXPECT_TRUE(json["read_bytes_per_s"].is_null());
  EXPECT_TRUE(json["int8_ops_per_s"].is_null());
  EXPECT_EQ(json["rows"][0]["decode_tokens_per_s"], 100);
}

}  // namespace
}  // namespace pregate
