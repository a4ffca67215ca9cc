#include "kernels/peaks.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/amx.h"

namespace pregate {
namespace {

constexpr int64_t kReadBytes = int64_t{256} << 20;
constexpr int kRepetitions = 5;
constexpr int64_t kFmaRounds = 4'000'000;

// Keeps a result alive so that the loop that made it is not removed.
std::atomic<uint64_t> sink{0};

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Runs `rounds` of a register loop on every thread; returns the fastest repetition's rate.
template <typename Loop>
double RegisterRate(Device& device, double operations_per_round, Loop loop) {
  double best = 0;
  for (int i = 0; i < kRepetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    device.ParallelFor(device.num_threads(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) sink += loop(kFmaRounds);
    });
    const double operations = operations_per_round * kFmaRounds * device.num_threads();
    best = std::max(best, operations / SecondsSince(start));
  }
  return best;
}

uint64_t Fold(const void* bytes, size_t size) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, std::min(size, sizeof(word)));
  return word;
}

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {

uint64_t Read(const char* data, int64_t bytes) {
  __m256i sum[4] = {};
  for (int64_t i = 0; i < bytes; i += 128) {
    for (int k = 0; k < 4; ++k) {
      const auto* p = reinterpret_cast<const __m256i*>(data + i + 32 * k);
      sum[k] = _mm256_add_epi64(sum[k], _mm256_load_si256(p));
    }
  }
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(
      reinterpret_cast<__m256i*>(lanes),
      _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]), _mm256_add_epi64(sum[2], sum[3])));
  return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

// Ten independent chains hide the latency of the multiply-add.
uint64_t FmaLoop(int64_t rounds) {
  __m256 chain[10];
  for (int k = 0; k < 10; ++k) chain[k] = _mm256_set1_ps(static_cast<float>(k));
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t i = 0; i < rounds; ++i) {
    for (int k = 0; k < 10; ++k) chain[k] = _mm256_fmadd_ps(chain[k], a, b);
  }
  for (int k = 1; k < 10; ++k) chain[0] = _mm256_add_ps(chain[0], chain[k]);
  return Fold(&chain[0], sizeof(chain[0]));
}

uint64_t Int8Loop(int64_t rounds) {
  __m256i chain[8];  // different, lest they be computed as one
  for (int k = 0; k < 8; ++k) chain[k] = _mm256_set1_epi32(k);
  __m256i a = _mm256_set1_epi8(3);
  const __m256i b = _mm256_set1_epi8(-5), ones = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < rounds; ++i) {
    for (int k = 0; k < 8; ++k) {
      const __m256i pairs = _mm256_maddubs_epi16(a, b);
      chain[k] = _mm256_add_epi32(chain[k], _mm256_madd_epi16(pairs, ones));
      // Opaque to the optimiser: the products must be formed anew each time.
      asm volatile("" : "+x"(a));
    }
  }
  for (int k = 1; k < 8; ++k) chain[0] = _mm256_add_epi32(chain[0], chain[k]);
  return Fold(&chain[0], sizeof(chain[0]));
}

}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")
namespace avx512 {

uint64_t FmaLoop(int64_t rounds) {
  __m512 chain[10];
  for (int k = 0; k < 10; ++k) chain[k] = _mm512_set1_ps(static_cast<float>(k));
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int64_t i = 0; i < rounds; ++i) {
    for (int k = 0; k < 10; ++k) chain[k] = _mm512_fmadd_ps(chain[k], a, b);
  }
  for (int k = 1; k < 10; ++k) chain[0] = _mm512_add_ps(chain[0], chain[k]);
  return Fold(&chain[0], sizeof(chain[0]));
}

uint64_t VnniLoop(int64_t rounds) {
  __m512i chain[10];  // different, lest they be computed as one
  for (int k = 0; k < 10; ++k) chain[k] = _mm512_set1_epi32(k);
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-5);
  for (int64_t i = 0; i < rounds; ++i) {
    for (int k = 0; k < 10; ++k) chain[k] = _mm512_dpbusd_epi32(chain[k], a, b);
  }
  for (int k = 1; k < 10; ++k) chain[0] = _mm512_add_epi32(chain[0], chain[k]);
  return Fold(&chain[0], sizeof(chain[0]));
}

}  // namespace avx512
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("amx-tile,amx-int8")
namespace amx {

// Tiles of 16 x 64 by 64 x 16 bytes, into four that do not wait for each other.
uint64_t TileLoop(int64_t rounds) {
  // Palette 1, eight registers of 16 rows of 64 bytes: Intel's manual, LDTILECFG.
  struct Config {
    uint8_t head[16];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };
  static constexpr Config kConfig = {
      {1}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
  asm volatile("ldtilecfg %0" ::"m"(kConfig));
  for (int64_t i = 0; i < rounds; ++i) {
    asm volatile(
        "tdpbssd %tmm6, %tmm4, %tmm0\n\ttdpbssd %tmm7, %tmm5, %tmm1\n\t"
        "tdpbssd %tmm6, %tmm5, %tmm2\n\ttdpbssd %tmm7, %tmm4, %tmm3");
  }
  asm volatile("tilerelease");
  return static_cast<uint64_t>(rounds);
}

}  // namespace amx
#pragma GCC pop_options

double MeasureReadBandwidth(Device& device) {
  const absl::StatusOr<DeviceBuffer> buffer = device.Allocate(kReadBytes);
  if (!buffer.ok()) return 0;
  char* const data = static_cast<char*>(buffer->data());
  const int64_t grain = kReadBytes / (64 * device.num_threads()) / 128 * 128;
  // Touch first, by the threads that will read.
  device.ParallelFor(kReadBytes / grain, 1, [&](int64_t begin, int64_t end) {
    std::memset(data + begin * grain, 1, (end - begin) * grain);
  });
  double best = 0;
  for (int i = 0; i < kRepetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    device.ParallelFor(kReadBytes / grain, 1, [&](int64_t begin, int64_t end) {
      sink += avx2::Read(data + begin * grain, (end - begin) * grain);
    });
    best = std::max(best, (kReadBytes / grain) * grain / SecondsSince(start));
  }
  return best;
}

double MeasureFmaRate(Device& device) {
  const bool wide = __builtin_cpu_supports("avx512f");
  if (wide) return RegisterRate(device, 10 * 16 * 2, avx512::FmaLoop);
  return RegisterRate(device, 10 * 8 * 2, avx2::FmaLoop);
}

double MeasureInt8Rate(Device& device) {
  if (UsableAmx()) return RegisterRate(device, 4 * 16 * 16 * 64 * 2, amx::TileLoop);
  if (__builtin_cpu_supports("avx512vnni")) {
    return RegisterRate(device, 10 * 64 * 2, avx512::VnniLoop);
  }
  return RegisterRate(device, 8 * 32 * 2, avx2::Int8Loop);
}

}  // namespace pregate
