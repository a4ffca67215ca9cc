#include "kernels/usable_cpus.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "kernels/device.h"

namespace pregate {
namespace {

// Where the CPU controller of a cgroup hierarchy is mounted, and which of its groups is there.
struct CpuMount {
  bool version2 = false;
  std::string group;  // the group that the mount point shows: "/" or a container's own
  std::string path;
};

// A mountinfo line: id parent device root mount-point options [fields] - type source superoptions.
std::vector<CpuMount> CpuMounts(const std::string& root) {
  std::vector<CpuMount> mounts;
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<std::string> place = absl::StrSplit(halves[0], ' ');
    const std::vector<std::string> kind = absl::StrSplit(halves[1], ' ');
    if (place.size() < 5 || kind.size() < 3) continue;
    const std::vector<std::string> options = absl::StrSplit(kind[2], ',');
    const bool version1 =
        kind[0] == "cgroup" && std::find(options.begin(), options.end(), "cpu") != options.end();
    if (kind[0] == "cgroup2" || version1) {
      mounts.push_back({.version2 = !version1, .group = place[3], .path = place[4]});
    }
  }
  return mounts;
}

// The process's group in the hierarchy, from lines "id:controllers:group".
std::optional<std::string> CpuGroup(const std::string& root, bool version2) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    const bool match =
        version2 ? parts[0] == "0" && parts[1].empty()
                 : std::find(controllers.begin(), controllers.end(), "cpu") != controllers.end();
    if (match) return parts[2];
  }
  return std::nullopt;
}

std::optional<double> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  double number;
  if (file >> number) return number;
  return std::nullopt;
}

std::optional<double> GroupLimit(const std::string& directory, bool version2) {
  std::optional<double> quota, period;
  if (version2) {
    std::ifstream file(directory + "/cpu.max");
    std::string first;
    double second;
    if (!(file >> first >> second) || first == "max") return std::nullopt;
    double number;
    if (std::istringstream(first) >> number) quota = number;
    period = second;
  } else {
    quota = ReadNumber(directory + "/cpu.cfs_quota_us");  // -1: none
    period = ReadNumber(directory + "/cpu.cfs_period_us");
  }
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return *quota / *period;
}

}  // namespace

std::optional<double> CgroupCpuLimit(const std::string& root) {
  std::optional<double> limit;
  for (const CpuMount& mount : CpuMounts(root)) {
    const std::optional<std::string> group = CpuGroup(root, mount.version2);
    if (!group) continue;
    // In a container the mount shows the container's own group, under its outer name or as "/".
    std::string below = *group;
    if (mount.group != "/") {
      below = std::string(absl::StripPrefix(below, mount.group));
      if (!below.empty() && below.front() != '/') below.clear();
    }
    for (;;) {
      const std::string directory = root + mount.path + std::string(absl::StripSuffix(below, "/"));
      if (const auto found = GroupLimit(directory, mount.version2)) {
        limit = std::min(limit.value_or(*found), *found);
      }
      if (below.empty() || below == "/") break;
      below.resize(below.rfind('/'));
    }
  }
  return limit;
}

int UsableCpus() {
  int cpus = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t mask;
  CPU_ZERO(&mask);
  // Fails on machines with more than CPU_SETSIZE processors: then the hardware's number stands.
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0) cpus = CPU_COUNT(&mask);
  if (const auto limit = CgroupCpuLimit("")) {
    cpus = std::min(cpus, static_cast<int>(std::ceil(*limit)));
  }
  return std::max(cpus, 1);
}

}  // namespace pregate
