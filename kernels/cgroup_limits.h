// The limits that a container runtime has put on this process.
#ifndef PREGATE_KERNELS_CGROUP_LIMITS_H_
#define PREGATE_KERNELS_CGROUP_LIMITS_H_

#include <cstdint>
#include <optional>
#include <string>

namespace pregate {

// Each is the smallest of those of the process's cgroup and its ancestors, found through
// /proc/self/cgroup and /proc/self/mountinfo. Nothing when there is no limit or none can be read.
// `root` is put before every path: empty but in tests.
// Source: Linux Documentation/admin-guide/cgroup-v2.rst, "cpu.max" and "memory.max";
// scheduler/sched-bwc.rst; admin-guide/cgroup-v1/memory.rst.

// CPUs' worth of time: `cpu.max` (version 2) or `cpu.cfs_quota_us` / `cpu.cfs_period_us` (1).
std::optional<double> CgroupCpuLimit(const std::string& root);

// Bytes: `memory.max` (version 2) or `memory.limit_in_bytes` (1).
std::optional<int64_t> CgroupMemoryLimit(const std::string& root);

}  // namespace pregate

#endif  // PREGATE_KERNELS_CGROUP_LIMITS_H_
