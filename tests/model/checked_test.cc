// Checked arithmetic against 128-bit integers (reliability row V3).
#include "engine/model/checked.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

#include "kernels/tensor.h"

namespace pregate {
namespace {

using Wide = unsigned __int128;
constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

// Numbers near the edges, where wrapping happens, as often as others.
uint64_t EdgyNumber(std::mt19937_64& random) {
  const uint64_t small = random() % 5;
  switch (random() % 6) {
    case 0:
      return small;
    case 1:
      return kMax - small;
    case 2:
      return (uint64_t{1} << (random() % 64)) + small - 2;
    case 3:
      return kMax / (1 + random() % 300) + small;
    case 4:
      return random();
    default:
      return random() % 100000;
  }
}

void ExpectExact(CheckedU64 got, Wide want) {
  ASSERT_EQ(got.ok(), want <= kMax);
  if (got.ok()) {
    ASSERT_EQ(got.value(), static_cast<uint64_t>(want));
  }
}

TEST(CheckedU64, AgreesWithWideIntegers) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200000; ++i) {
    const uint64_t a = EdgyNumber(random);
    const uint64_t b = EdgyNumber(random);
    ExpectExact(CheckedU64(a) + b, Wide{a} + b);
    ExpectExact(CheckedU64(a) * b, Wide{a} * b);
    const uint64_t alignment = b == 0 ? 1 : b;
    ExpectExact(CheckedU64(a).RoundUp(alignment),
                (Wide{a} + alignment - 1) / alignment * alignment);
    const CheckedU64 quotient = CheckedU64(a).ExactQuotient(b);
    ASSERT_EQ(quotient.ok(), b != 0 && a % b == 0);
    if (quotient.ok()) {
      ASSERT_EQ(quotient.value(), a / b);
    }
  }
}

TEST(CheckedU64, PoisonReachesEveryLaterResult) {
  const CheckedU64 wrapped = CheckedU64(kMax) + 1;
  EXPECT_FALSE(wrapped.ok());
  EXPECT_FALSE((wrapped * 0).ok());
  EXPECT_FALSE((CheckedU64(0) * wrapped).ok());
  EXPECT_FALSE((wrapped + 1).ok());
  EXPECT_FALSE(wrapped.RoundUp(32).ok());
  EXPECT_FALSE(wrapped.ExactQuotient(1).ok());
  EXPECT_FALSE(wrapped.AtMost(kMax));
}

// The whole formula of a tensor's end in a file, for random types, shapes and alignments.
TEST(CheckedU64, TensorSizesAgreeWithWideIntegers) {
  std::mt19937_64 random(2);
  const Wide limit = Wide{1} << 120;  // the oracle stops before it could wrap itself
  int exact = 0;
  for (int i = 0; i < 200000; ++i) {
    const DTypeInfo& type = GetDTypeInfo(static_cast<DType>(random() % (kNumDTypes - 1)));
    const uint64_t alignment = uint64_t{8} << (random() % 17);
    const uint64_t offset = EdgyNumber(random);
    const uint64_t blocks = EdgyNumber(random) % (kMax / type.block_elements);
    std::vector<uint64_t> outer;
    for (uint64_t d = random() % 4; d > 0; --d) outer.push_back(EdgyNumber(random));

    CheckedU64 bytes =
        (CheckedU64(blocks) * type.block_elements).ExactQuotient(type.block_elements) *
        type.block_bytes;
    Wide want = Wide{blocks} * type.block_bytes;
    bool want_fits = want <= kMax;
    for (const uint64_t dim : outer) {
      bytes = bytes * dim;
      want = want_fits && want < limit ? want * dim : limit;
      want_fits = want_fits && want <= kMax;
    }
    const CheckedU64 end = (bytes + offset).RoundUp(alignment);
    const Wide want_end = (want + offset + alignment - 1) / alignment * alignment;
    want_fits = want_fits && want_end <= kMax;
    ASSERT_EQ(end.ok(), want_fits);
    if (!want_fits) continue;
    ++exact;
    ASSERT_EQ(end.value(), static_cast<uint64_t>(want_end));
  }
  EXPECT_GT(exact, 10000);
}

}  // namespace
}  // namespace pregate
