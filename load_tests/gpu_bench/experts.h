// What clients get of a Read-ME model of which some experts are on the GPU, and the others in the
// host's memory.
#ifndef PREGATE_LOAD_TESTS_GPU_BENCH_EXPERTS_H_
#define PREGATE_LOAD_TESTS_GPU_BENCH_EXPERTS_H_

#include <string>
#include <vector>

namespace pregate {

// experts-{small,8b}-{25,50,75}-{planned,demand}: the model, the share of its four experts that
// fits, and whether the server orders, prefetches and evicts by its queues, or serves everybody in
// order, loads what a step needs, and evicts what was used least recently.
std::vector<std::string> ExpertCases();

// Prints a line of JSON. Returns an exit status.
int RunExpertCase(const std::string& name, const std::string& device);

}  // namespace pregate

#endif  // PREGATE_LOAD_TESTS_GPU_BENCH_EXPERTS_H_
