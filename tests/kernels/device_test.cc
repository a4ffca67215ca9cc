// The CPU device, its thread pool and the number of usable processors.
#include "kernels/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/cgroup_limits.h"
#include "kernels/kernels.h"
#include "kernels/thread_pool.h"

namespace pregate {
namespace {

TEST(ThreadPoolTest, CoversEachIndexOnceInRangesOfTheGrain) {
  for (const int threads : {1, 2, 7}) {
    ThreadPool pool(threads, threads == 2);
    EXPECT_EQ(pool.num_threads(), threads);
    for (const int64_t count : {0, 1, 2, 63, 64, 65, 1000}) {
      for (const int64_t grain : {1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
        pool.ParallelFor(count, grain, [&](int64_t begin, int64_t end) {
          EXPECT_LT(begin, end);
          EXPECT_EQ(begin % grain, 0);
          EXPECT_TRUE(end == count || (end - begin) % grain == 0);
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
        });
        for (const std::atomic<int>& times : seen) EXPECT_EQ(times, 1);
      }
    }
  }
}

TEST(ThreadPoolTest, ManyShortLoopsSeeEachOthersWrites) {
  ThreadPool pool(4, /*may_spin=*/false);
  std::vector<int64_t> cells(64, 0);  // plain memory: a missing order is a data race
  for (int loop = 0; loop < 2000; ++loop) {
    pool.ParallelFor(64, 1 + loop % 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) cells[static_cast<size_t>(i)] += i;
    });
  }
  for (int64_t i = 0; i < 64; ++i) EXPECT_EQ(cells[static_cast<size_t>(i)], 2000 * i);
}

TEST(ThreadPoolTest, WorkersJoinALongLoop) {
  ThreadPool pool(3, /*may_spin=*/true);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));  // they have gone to sleep
  std::mutex mutex;
  std::set<std::thread::id> helpers;
  // Ends only when all three threads have taken part.
  pool.ParallelFor(3, 1, [&](int64_t, int64_t) {
    for (;;) {
      {
        std::lock_guard lock(mutex);
        helpers.insert(std::this_thread::get_id());
        if (helpers.size() == 3) return;
      }
      std::this_thread::yield();
    }
  });
  EXPECT_EQ(helpers.size(), 3u);
}

TEST(ThreadPoolTest, StartsAndEndsWithoutWork) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(1 + i % 5, i % 2 == 0);
}

TEST(CpuDeviceTest, AllocatesAlignedMemoryAndSaysWhenItCannot) {
  const std::unique_ptr<Device> device = MakeCpuDevice(2);
  EXPECT_EQ(device->num_threads(), 2);
  EXPECT_THAT(std::string(device->name()), testing::EndsWith("2 threads)"));
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{1000}, size_t{5} << 20}) {
    auto buffer = device->Allocate(bytes);
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(buffer->size(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    DeviceBuffer moved = *std::move(buffer);
    std::vector<char> out(bytes, 1), in(bytes, 7);
    device->CopyToDevice(moved.data(), in.data(), bytes);
    device->CopyToHost(out.data(), moved.data(), bytes);
    EXPECT_EQ(in, out);
  }
  for (const size_t bytes : {std::numeric_limits<size_t>::max(), size_t{1} << 62}) {
    const auto failed = device->Allocate(bytes);
    EXPECT_EQ(failed.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(failed.status().message()), testing::HasSubstr(std::to_string(bytes)));
  }
}

TEST(CpuKernelsTest, PicksByNameAndEnvironment) {
  unsetenv("PREGATE_ISA");
  const Kernels* fastest = &ReferenceKernels();
  for (const CpuTable& table : AllCpuTables()) {
    const auto named = CpuKernels(table.kernels->name);
    if (table.runnable) {
      fastest = table.kernels;
      EXPECT_EQ(named.value(), table.kernels);
    } else {
      EXPECT_EQ(named.status().code(), absl::StatusCode::kFailedPrecondition);
    }
  }
  EXPECT_EQ(CpuKernels().value(), fastest);
  EXPECT_EQ(CpuKernels("reference").value(), &ReferenceKernels());
  setenv("PREGATE_ISA", "reference", 1);
  EXPECT_EQ(CpuKernels().value(), &ReferenceKernels());
  unsetenv("PREGATE_ISA");
  const absl::Status unknown = CpuKernels("avx1024").status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(std::string(unknown.message()),
            "isa: must be one of reference, avx2, avx512, avx512vnni, amx; got avx1024");
}

TEST(CpuKernelsTest, EveryTableIsComplete) {
  std::vector<const Kernels*> tables = {&ReferenceKernels()};
  for (const CpuTable& table : AllCpuTables()) tables.push_back(table.kernels);
  for (const Kernels* k : tables) {
    EXPECT_TRUE(k->embed && k->rms_norm && k->packed_bytes && k->pack && k->quantize_rows &&
                k->matmul && k->rope_table && k->rope && k->kv_append && k->attention &&
                k->gated_activation && k->add && k->gather_rows && k->top_k_gate &&
                k->combine_rows && k->likeliest && k->gather_logits && k->edit_logits &&
                k->draw_tokens)
        << k->name;
    EXPECT_EQ(k->packed_bytes(DType::kF32, 16, 3), 16 * 3 * 4) << k->name;
    EXPECT_EQ(k->packed_bytes(DType::kI32, 16, 3), 0) << k->name;
  }
}

// A file system of a few small files.
class FakeRoot {
 public:
  FakeRoot() : path_(std::filesystem::path(testing::TempDir()) / "usable_cpus_test") {
    std::filesystem::remove_all(path_);
  }
  ~FakeRoot() { std::filesystem::remove_all(path_); }
  void Write(const std::string& name, const std::string& text) {
    const std::filesystem::path file = path_.string() + name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  // Cgroups of version 2, with this process in /a/b, and no limits yet.
  void WriteVersion2() {
    Write("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    Write("/proc/self/cgroup", "0::/a/b\n");
  }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

TEST(UsableCpusTest, Version2TakesTheSmallestLimitOfTheAncestors) {
  FakeRoot root;
  root.WriteVersion2();
  EXPECT_EQ(CgroupCpuLimit(root.path()), std::nullopt);
  root.Write("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(CgroupCpuLimit(root.path()), std::nullopt);
  root.Write("/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
  EXPECT_EQ(CgroupCpuLimit(root.path()), 2.5);
  root.Write("/sys/fs/cgroup/a/b/cpu.max", "400000 100000\n");
  EXPECT_EQ(CgroupCpuLimit(root.path()), 2.5);
}

TEST(UsableCpusTest, Version1InsideAContainer) {
  FakeRoot root;
  root.Write("/proc/self/mountinfo",
             "30 23 0:26 /docker/c1 /sys/fs/cgroup/cpu,cpuacct ro shared:9 - cgroup cgroup "
             "rw,cpu,cpuacct\n31 23 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n");
  root.Write("/proc/self/cgroup", "4:cpuset:/\n3:cpu,cpuacct:/docker/c1\n0::/\n");
  root.Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  root.Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(CgroupCpuLimit(root.path()), std::nullopt);
  root.Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
  EXPECT_EQ(CgroupCpuLimit(root.path()), 0.5);
}

TEST(UsableCpusTest, ThisMachineHasAtLeastOne) { EXPECT_GE(UsableCpus(), 1); }

TEST(UsableMemoryTest, Version2TakesTheSmallestAncestor) {
  FakeRoot root;
  root.WriteVersion2();
  EXPECT_EQ(CgroupMemoryLimit(root.path()), std::nullopt);
  root.Write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  EXPECT_EQ(CgroupMemoryLimit(root.path()), std::nullopt);
  root.Write("/sys/fs/cgroup/a/memory.max", "1073741824\n");
  EXPECT_EQ(CgroupMemoryLimit(root.path()), int64_t{1} << 30);
  root.Write("/sys/fs/cgroup/a/b/memory.max", "2147483648\n");
  EXPECT_EQ(CgroupMemoryLimit(root.path()), int64_t{1} << 30);
}

TEST(UsableMemoryTest, Version1InsideAContainer) {
  FakeRoot root;
  root.Write("/proc/self/mountinfo",
             "30 23 0:26 /docker/c1 /sys/fs/cgroup/memory ro shared:9 - cgroup cgroup rw,memory\n");
  root.Write("/proc/self/cgroup", "4:memory:/docker/c1\n0::/\n");
  root.Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(CgroupMemoryLimit(root.path()), std::nullopt);
  root.Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
  EXPECT_EQ(CgroupMemoryLimit(root.path()), int64_t{512} << 20);
}

TEST(UsableMemoryTest, IsTheMachinesAtMost) {
  EXPECT_GT(UsableMemory(), 0);
  EXPECT_LE(UsableMemory(), sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
}

}  // namespace
}  // namespace pregate
