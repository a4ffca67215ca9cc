#include "server/metrics/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>

#include "server/metrics/families.h"

namespace pregate {
namespace {

std::string ReadAll(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The fields of /proc/self/stat used here; proc(5) numbers them from 1.
struct ProcessStat {
  double cpu_ticks = 0;
  double start_ticks = 0;  // since boot
  double threads = 0;
  double virtual_bytes = 0;
  double resident_pages = 0;
};

std::optional<ProcessStat> ReadStat() {
  const std::string text = ReadAll("/proc/self/stat");
  const size_t name_end = text.rfind(')');  // field 2, which may contain anything
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  std::string state;
  fields >> state;
  std::vector<double> values(std::istream_iterator<double>(fields), {});  // from field 4 on
  constexpr int kFirst = 4;
  if (values.size() <= 24 - kFirst) return std::nullopt;
  return ProcessStat{.cpu_ticks = values[14 - kFirst] + values[15 - kFirst],
                     .start_ticks = values[22 - kFirst],
                     .threads = values[20 - kFirst],
                     .virtual_bytes = values[23 - kFirst],
                     .resident_pages = values[24 - kFirst]};
}

// Seconds since 1970 when the machine started, as the kernel sees it when first asked: it moves
// when the clock is set, and a start that moves looks like another process.
std::optional<double> ReadBootTime() {
  std::ifstream file("/proc/stat");
  for (std::string word; file >> word;) {
    if (word != "btime") continue;
    double seconds = 0;
    if (file >> seconds) return seconds;
  }
  return std::nullopt;
}

std::optional<double> BootTime() {
  static const std::optional<double> time = ReadBootTime();
  return time;
}

std::optional<double> OpenFiles() {
  std::error_code error;
  double count = 0;
  std::filesystem::directory_iterator files("/proc/self/fd", error);
  for (; !error && files != std::filesystem::directory_iterator(); files.increment(error)) ++count;
  if (error) return std::nullopt;
  return count - 1;  // not the one that reads the folder
}

}  // namespace

std::vector<prometheus::MetricFamily> ProcessFamilies() {
  std::vector<prometheus::MetricFamily> families;
  if (const std::optional<ProcessStat> stat = ReadStat(); stat.has_value()) {
    const double ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
    families.push_back(CounterFamily("process_cpu_seconds_total", "Processor time, all threads.",
                                     stat->cpu_ticks / ticks_per_second));
    families.push_back(GaugeFamily(
        "process_resident_memory_bytes", "Memory in use, the mapped model's pages included.",
        stat->resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE))));
    families.push_back(
        GaugeFamily("process_virtual_memory_bytes", "Address space in use.", stat->virtual_bytes));
    families.push_back(GaugeFamily("process_threads", "Threads.", stat->threads));
    if (const std::optional<double> boot = BootTime(); boot.has_value()) {
      families.push_back(GaugeFamily("process_start_time_seconds", "Start, since 1970.",
                                     *boot + stat->start_ticks / ticks_per_second));
    }
  }
  if (const std::optional<double> files = OpenFiles(); files.has_value()) {
    families.push_back(GaugeFamily("process_open_fds", "Open file descriptors.", *files));
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    families.push_back(GaugeFamily("process_max_fds", "Limit of open file descriptors.",
                                   static_cast<double>(limit.rlim_cur)));
  }
  return families;
}

}  // namespace pregate
