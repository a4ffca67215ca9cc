// The CPU limit that a container runtime has put on this process.
#ifndef PREGATE_KERNELS_USABLE_CPUS_H_
#define PREGATE_KERNELS_USABLE_CPUS_H_

#include <optional>
#include <string>

namespace pregate {

// CPUs' worth of time that the process's cgroup and its ancestors allow, the smallest of them:
// `cpu.max` (version 2) or `cpu.cfs_quota_us` / `cpu.cfs_period_us` (version 1), found through
// /proc/self/cgroup and /proc/self/mountinfo. Nothing when there is no limit or none can be read.
// `root` is put before every path: empty but in tests.
// Source: Linux Documentation/admin-guide/cgroup-v2.rst, "cpu.max"; scheduler/sched-bwc.rst.
std::optional<double> CgroupCpuLimit(const std::string& root);

}  // namespace pregate

#endif  // PREGATE_KERNELS_USABLE_CPUS_H_
