// Runs a fuzz target without libFuzzer, so that every test run does: over the seeds, then over
// pseudo-random mutations of them (the same ones each time), or over the files that it is given.
//
// Usage: TARGET                 20,000 mutations
//        TARGET --runs=N        N mutations
//        TARGET FILE...         these inputs, for instance what libFuzzer found
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

#include "tests/fuzz/fuzz_target.h"

namespace pregate {
namespace {

using Random = std::mt19937_64;

// Runs on a copy of exactly the input's size, so that a sanitizer sees a read past its end.
void Run(const std::string& input) {
  const std::vector<uint8_t> exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

// Positions near the front twice out of three times: headers are there.
size_t Position(const std::string& input, Random& random) {
  const size_t range = random() % 3 == 0 ? input.size() : std::min<size_t>(input.size(), 2048);
  return random() % range;
}

// Numbers at which sizes and types change their meaning.
uint64_t EdgyNumber(Random& random) {
  const uint64_t power = uint64_t{1} << (random() % 64);
  return power - 1 + random() % 3;
}

void Mutate(std::string& input, const std::vector<std::string>& seeds, Random& random) {
  if (input.empty()) input.push_back('\0');
  const size_t at = Position(input, random);
  switch (random() % 8) {
    case 0:
      input[at] = static_cast<char>(input[at] ^ (1 << (random() % 8)));
      break;
    case 1:
      input[at] = static_cast<char>(random());
      break;
    case 2:
    case 3: {  // a number of four or eight bytes
      const uint64_t number = EdgyNumber(random);
      const size_t bytes = std::min<size_t>(random() % 2 == 0 ? 4 : 8, input.size() - at);
      std::memcpy(input.data() + at, &number, bytes);
      break;
    }
    case 4:
      input.erase(at, 1 + random() % 16);
      break;
    case 5:
      input.insert(at, input.substr(Position(input, random), 1 + random() % 64));
      break;
    case 6:
      input.resize(at);
      break;
    default: {  // a piece of a sound input
      const std::string& other = seeds[random() % seeds.size()];
      const std::string piece = other.substr(Position(other, random), 1 + random() % 64);
      input.replace(at, std::min(piece.size(), input.size() - at), piece);
      break;
    }
  }
}

int RunMutations(int64_t runs) {
  const std::vector<std::string> seeds = FuzzSeeds();
  for (const std::string& seed : seeds) Run(seed);
  for (int64_t i = 0; i < runs; ++i) {
    Random random(static_cast<uint64_t>(i));  // by index, so that one failing input can be remade
    std::string input = seeds[random() % seeds.size()];
    for (uint64_t steps = 1 + random() % 4; steps > 0; --steps) Mutate(input, seeds, random);
    Run(input);
  }
  std::printf("%zu seeds and %lld mutations, every answer typed\n", seeds.size(),
              static_cast<long long>(runs));
  return 0;
}

int RunFiles(int count, char** paths) {
  for (int i = 0; i < count; ++i) {
    std::ifstream file(paths[i], std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "%s: cannot be read\n", paths[i]);
      return 2;
    }
    Run(std::string(std::istreambuf_iterator<char>(file), {}));
  }
  std::printf("%d inputs, every answer typed\n", count);
  return 0;
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  constexpr int64_t kDefaultRuns = 20000;
  if (argc < 2) return pregate::RunMutations(kDefaultRuns);
  if (std::strncmp(argv[1], "--runs=", 7) == 0) {
    return pregate::RunMutations(std::strtoll(argv[1] + 7, nullptr, 10));
  }
  return pregate::RunFiles(argc - 1, argv + 1);
}
