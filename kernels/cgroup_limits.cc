#include "kernels/cgroup_limits.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "kernels/device.h"

namespace pregate {
namespace {

bool Has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// Where a controller's hierarchy of cgroups is mounted, and which of its groups is there.
struct Mount {
  bool version2 = false;
  std::string group;  // the group that the mount point shows: "/" or a container's own
  std::string path;
};

// A mountinfo line: id parent device root mount-point options [fields] - type source superoptions.
std::vector<Mount> MountsOf(const std::string& controller, const std::string& root) {
  std::vector<Mount> mounts;
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<std::string> place = absl::StrSplit(halves[0], ' ');
    const std::vector<std::string> kind = absl::StrSplit(halves[1], ' ');
    if (place.size() < 5 || kind.size() < 3) continue;
    const std::vector<std::string> options = absl::StrSplit(kind[2], ',');
    const bool version1 = kind[0] == "cgroup" && Has(options, controller);
    if (kind[0] == "cgroup2" || version1) {
      mounts.push_back({.version2 = !version1, .group = place[3], .path = place[4]});
    }
  }
  return mounts;
}

// The process's group in the hierarchy, from lines "id:controllers:group".
std::optional<std::string> GroupOf(const std::string& controller, bool version2,
                                   const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    const bool match =
        version2 ? parts[0] == "0" && parts[1].empty() : Has(controllers, controller);
    if (match) return parts[2];
  }
  return std::nullopt;
}

std::optional<double> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  double number;
  if (file >> number) return number;  // "max", of version 2, is none
  return std::nullopt;
}

std::optional<double> CpusOf(const std::string& directory, bool version2) {
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

std::optional<double> MemoryOf(const std::string& directory, bool version2) {
  // In version 1, none is the largest number that is a whole count of pages.
  constexpr double kNone = 1e18;
  const std::optional<double> bytes =
      ReadNumber(directory + (version2 ? "/memory.max" : "/memory.limit_in_bytes"));
  return bytes && *bytes >= 0 && *bytes < kNone ? bytes : std::nullopt;
}

// The smallest limit that `limit_of` reads, from the process's group up to the top.
std::optional<double> SmallestLimit(const std::string& controller, const std::string& root,
                                    std::optional<double> (*limit_of)(const std::string& directory,
                                                                      bool version2)) {
  std::optional<double> limit;
  for (const Mount& mount : MountsOf(controller, root)) {
    const std::optional<std::string> group = GroupOf(controller, mount.version2, root);
    if (!group) continue;
    // In a container the mount shows the container's own group, under its outer name or as "/".
    std::string below = *group;
    if (mount.group != "/") {
      below = std::string(absl::StripPrefix(below, mount.group));
      if (!below.empty() && below.front() != '/') below.clear();
    }
    for (;;) {
      const std::string directory = root + mount.path + std::string(absl::StripSuffix(below, "/"));
      if (const auto found = limit_of(directory, mount.version2)) {
        limit = std::min(limit.value_or(*found), *found);
      }
      if (below.empty() || below == "/") break;
      below.resize(below.rfind('/'));
    }
  }
  return limit;
}

}  // namespace

std::optional<double> CgroupCpuLimit(const std::string& root) {
  return SmallestLimit("cpu", root, CpusOf);
}

std::optional<int64_t> CgroupMemoryLimit(const std::string& root) {
  const std::optional<double> bytes = SmallestLimit("memory", root, MemoryOf);
  return bytes ? std::optional<int64_t>(static_cast<int64_t>(*bytes)) : std::nullopt;
}

int64_t UsableMemory() {
  const int64_t pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  return std::min(pages * page, CgroupMemoryLimit("").value_or(pages * page));
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
