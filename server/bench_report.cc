#include "server/bench_report.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"

namespace pregate {
namespace {

// "  84%" of a roof that was measured; of none "    -".
std::string Share(double rate, double roof) {
  if (roof == 0) return absl::StrFormat("%8s", "-");
  return absl::StrFormat("%7.0f%%", 100 * rate / roof);
}

nlohmann::ordered_json RoofJson(double roof) {
  return roof == 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(roof);
}

}  // namespace

std::string BenchTable(const BenchReport& report) {
  std::string table = absl::StrFormat("%s, %.1f M parameters, %.1f MB of weights, on %s\n",
                                      report.model.architecture, report.model.num_parameters / 1e6,
                                      report.model.weight_bytes / 1e6, report.model.device);
  if (report.read_bytes_per_s > 0) {
    absl::StrAppendFormat(
        &table, "measured here: read %.1f GB/s, fp32 %.0f GFLOP/s, int8 %.0f GOP/s\n",
        report.read_bytes_per_s / 1e9, report.fma_flops_per_s / 1e9, report.int8_ops_per_s / 1e9);
  }
  absl::StrAppendFormat(&table, "\n%7s %6s %13s %10s %8s %13s %10s %8s\n", "prompt", "batch",
                        "prefill tok/s", "GOP/s", "of int8", "decode tok/s", "GB/s", "of read");
  for (const BenchRow& row : report.rows) {
    absl::StrAppendFormat(&table, "%7d %6d %13.1f %10.0f %s %13.1f %10.1f %s\n", row.prompt_tokens,
                          row.batch_size, row.prefill_tokens_per_s, row.prefill_ops_per_s / 1e9,
                          Share(row.prefill_ops_per_s, report.int8_ops_per_s),
                          row.decode_tokens_per_s, row.decode_bytes_per_s / 1e9,
                          Share(row.decode_bytes_per_s, report.read_bytes_per_s));
  }
  return table;
}

std::string BenchJson(const BenchReport& report) {
  nlohmann::ordered_json json;
  json["model"] = {{"name", report.model.name},
                   {"architecture", report.model.architecture},
                   {"num_parameters", report.model.num_parameters},
                   {"weight_bytes", report.model.weight_bytes},
                   {"device", report.model.device}};
  json["read_bytes_per_s"] = RoofJson(report.read_bytes_per_s);
  json["fma_flops_per_s"] = RoofJson(report.fma_flops_per_s);
  json["int8_ops_per_s"] = RoofJson(report.int8_ops_per_s);
  json["expert_bytes"] = report.expert_bytes;
  json["rows"] = nlohmann::ordered_json::array();
  for (const BenchRow& row : report.rows) {
    json["rows"].push_back({{"prompt_tokens", row.prompt_tokens},
                            {"batch_size", row.batch_size},
                            {"prefill_tokens_per_s", row.prefill_tokens_per_s},
                            {"prefill_ops_per_s", row.prefill_ops_per_s},
                            {"decode_tokens_per_s", row.decode_tokens_per_s},
                            {"decode_bytes_per_s", row.decode_bytes_per_s}});
  }
  return json.dump(1) + "\n";
}

}  // namespace pregate
