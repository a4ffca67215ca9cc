// Random draws of the simulator: the same on every machine, and nothing but a seed behind them.
#ifndef PREGATE_TESTS_PLAN_SIM_RANDOM_H_
#define PREGATE_TESTS_PLAN_SIM_RANDOM_H_

#include <cstdint>

namespace pregate {

// One word out of two, every bit of either moves half of its bits (the finaliser of SplitMix64).
inline uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t x = a * 0x9e3779b97f4a7c15 + b + 0x632be59bd9b4e019;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

class SimRandom {
 public:
  explicit SimRandom(uint64_t seed) : seed_(seed) {}

  uint64_t Next() { return Mix(seed_, ++draws_); }

  // Uniform in [low, high].
  int32_t Draw(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(Next() % static_cast<uint64_t>(high - low + 1));
  }

  // In [low, high], low >= 1, each doubling as likely as the next: small worlds find most bugs,
  // large ones the rest.
  int32_t LogDraw(int32_t low, int32_t high) {
    int32_t from = low;
    for (int32_t doublings = Draw(0, Log2(high / low)); doublings > 0; --doublings) from *= 2;
    return Draw(from, 2 * from - 1 < high ? 2 * from - 1 : high);
  }

  bool OneIn(int32_t n) { return Draw(1, n) == 1; }

 private:
  static int32_t Log2(int32_t x) {
    int32_t log = 0;
    while (x >>= 1) ++log;
    return log;
  }

  uint64_t seed_;
  uint64_t draws_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_TESTS_PLAN_SIM_RANDOM_H_
