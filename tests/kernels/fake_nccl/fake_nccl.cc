// Stands in for NVIDIA's NCCL (libnccl.so.2) over fake_cudart: as much of it as
// kernels/cuda/nccl.cc calls, with NCCL's own signatures. A collective ends on a rank once all
// ranks have come to it; sums are taken in the order of ranks.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace {

struct Round {
  explicit Round(size_t ranks) : brought(ranks), here(ranks, false) {}
  std::vector<std::vector<float>> brought;
  std::vector<bool> here;
};
struct Group {
  size_t ranks = 0;
  std::vector<cudaStream_t> streams;  // that each rank has issued something in
  std::map<size_t, Round> rounds;     // of sums
  std::map<std::pair<int, int>, std::deque<std::vector<float>>> sent;  // by (from, to)

  Round& At(size_t number) { return rounds.try_emplace(number, ranks).first->second; }
};

int open_groups = 0;  // of calls

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "fake_nccl: %s\n", what);
  std::abort();
}

}  // namespace

struct ncclComm {
  int rank = 0;
  std::shared_ptr<Group> group;
  size_t sums_begun = 0;
};

namespace {

struct Operation {
  ncclComm* comm;
  const void* from;
  void* to;
  size_t count;
  int peer;
};

// Kept for good: a graph may run it again.
void Issue(cudaStream_t stream, void (*body)(void*), const Operation& operation) {
  static auto& all = *new std::deque<Operation>;
  all.push_back(operation);
  operation.comm->group->streams[static_cast<size_t>(operation.comm->rank)] = stream;
  FakeCudartIssue(stream, body, &all.back());
}

std::vector<float> Copy(const void* from, size_t count) {
  std::vector<float> values(count);
  std::memcpy(values.data(), from, count * sizeof(float));
  return values;
}

void RunSum(void* argument) {
  const Operation& op = *static_cast<Operation*>(argument);
  Group& group = *op.comm->group;
  Round& round = group.At(op.comm->sums_begun++);
  const auto rank = static_cast<size_t>(op.comm->rank);
  round.brought[rank] = Copy(op.from, op.count);
  round.here[rank] = true;
  for (size_t other = 0; other < group.ranks; ++other) {
    std::pair<Round*, size_t> wanted = {&round, other};
    if (round.here[other]) continue;
    FakeCudartRunUntil(
        group.streams[other],
        [](void* what) {
          const auto& [of, number] = *static_cast<std::pair<Round*, size_t>*>(what);
          return static_cast<bool>(of->here[number]);
        },
        &wanted);
  }
  std::vector<float> sum(op.count, 0.0f);
  for (const std::vector<float>& brought : round.brought) {
    Require(brought.size() == op.count, "ranks bring sums of different sizes");
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += brought[i];
  }
  std::memcpy(op.to, sum.data(), op.count * sizeof(float));
}

void RunSend(void* argument) {
  const Operation& op = *static_cast<Operation*>(argument);
  op.comm->group->sent[{op.comm->rank, op.peer}].push_back(Copy(op.from, op.count));
}

void RunReceive(void* argument) {
  const Operation& op = *static_cast<Operation*>(argument);
  auto& queue = op.comm->group->sent[{op.peer, op.comm->rank}];
  FakeCudartRunUntil(
      op.comm->group->streams[static_cast<size_t>(op.peer)],
      [](void* what) { return !static_cast<std::deque<std::vector<float>>*>(what)->empty(); },
      &queue);
  Require(queue.front().size() == op.count, "receives another size than was sent");
  std::memcpy(op.to, queue.front().data(), op.count * sizeof(float));
  queue.pop_front();
}

}  // namespace

extern "C" {

int ncclGetVersion(int* version) {
  const char* const said = std::getenv("FAKE_NCCL_VERSION");
  *version = said == nullptr ? 22809 : std::atoi(said);
  return 0;
}
const char* ncclGetErrorString(int) { return "an error of NCCL"; }

int ncclCommInitAll(ncclComm** comms, int count, const int* devices) {
  if (std::getenv("FAKE_NCCL_FAILS") != nullptr) return 2;
  const auto group = std::make_shared<Group>();
  group->ranks = static_cast<size_t>(count);
  group->streams.resize(group->ranks);
  for (int i = 0; i < count; ++i) {
    Require(devices[i] == i, "ranks must be devices in their order");
    if (cudaSetDevice(devices[i]) != cudaSuccess) return 1;
    comms[i] = new ncclComm{i, group};
  }
  return 0;
}
int ncclCommDestroy(ncclComm* comm) {
  delete comm;
  return 0;
}

int ncclAllReduce(const void* from, void* to, size_t count, int type, int operation, ncclComm* comm,
                  cudaStream_t stream) {
  Require(type == 7 && operation == 0, "must be a sum of floats");
  Issue(stream, RunSum, {comm, from, to, count, 0});
  return 0;
}
int ncclSend(const void* from, size_t count, int type, int peer, ncclComm* comm,
             cudaStream_t stream) {
  Require(type == 7 && peer != comm->rank, "must send floats to another rank");
  Issue(stream, RunSend, {comm, from, nullptr, count, peer});
  return 0;
}
int ncclRecv(void* to, size_t count, int type, int peer, ncclComm* comm, cudaStream_t stream) {
  Require(type == 7 && peer != comm->rank, "must receive floats from another rank");
  Require(open_groups == 1, "several receptions must be a group");
  Issue(stream, RunReceive, {comm, nullptr, to, count, peer});
  return 0;
}
int ncclGroupStart() {
  ++open_groups;
  return 0;
}
int ncclGroupEnd() {
  Require(open_groups-- == 1, "ends a group that is none");
  return 0;
}

}  // extern "C"
