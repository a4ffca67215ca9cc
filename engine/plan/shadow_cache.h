// ShadowCaches: what other ways to choose what gives way would have made of the same accesses, so
// that an operator sees how far the cache is from them and from the optimum. Nothing is loaded.
//
// A step's units are accessed together, those in memory first; then the others one by one, each in
// the place of the unit that the policy names. No unit is held for the step, so a step may need
// more than fits.
#ifndef PREGATE_ENGINE_PLAN_SHADOW_CACHE_H_
#define PREGATE_ENGINE_PLAN_SHADOW_CACHE_H_

#include <array>
#include <cstdint>
#include <vector>

namespace pregate {

enum class ShadowPolicy : uint8_t {
  kRandom,
  kLru,
  kLfu,
  kStatic,         // the units that were accessed most, in hindsight, for ever
  kBeladyOffline,  // the one needed again the latest, in hindsight, window by window
};
inline constexpr int32_t kShadowPolicies = 5;

// Hits of a cache that starts with `resident` units (marked, [units]; updated), over a trace of
// steps, when it evicts the unit whose next use is the furthest away. Optimal for units of one size
// and one access a step; where a step needs several, the last to come stays whether it is wanted or
// not, which can cost a hit now and then.
int64_t BeladyHits(const std::vector<std::vector<int32_t>>& trace,
                   const std::vector<int64_t>& bytes, int64_t capacity,
                   std::vector<bool>* resident);

class ShadowCaches {
 public:
  // Steps that the offline policy sees at once.
  static constexpr int32_t kWindow = 1024;

  // Bytes of each unit; `capacity` holds the largest of them.
  ShadowCaches(std::vector<int64_t> bytes, int64_t capacity, uint64_t seed);

  // A step needs these units, each once.
  void Observe(const std::vector<int32_t>& units);

  // Share of the accesses that were hits; 0 before there were any.
  double HitRatio(ShadowPolicy policy) const;
  // What an access of a unit chosen blindly would hit: the share of all bytes that fits.
  double floor() const;

 private:
  struct Cache {
    std::vector<bool> resident;  // [units]
    int64_t used = 0;            // bytes
    int64_t hits = 0;
  };

  void Access(ShadowPolicy policy, const std::vector<int32_t>& units);
  double Keep(ShadowPolicy policy, int32_t unit);

  const std::vector<int64_t> bytes_;
  const int64_t capacity_;
  uint64_t random_;
  int64_t steps_ = 0;
  int64_t accesses_ = 0;
  std::vector<int64_t> last_used_;  // [units] step
  std::vector<int64_t> uses_;       // [units]
  std::array<Cache, 3> online_;     // kRandom, kLru, kLfu
  std::vector<std::vector<int32_t>> window_;
  std::vector<bool> belady_;  // [units] resident before the window
  int64_t belady_hits_ = 0;   // in the windows that are over
  // With those of the window, when there had been so many accesses: it is a walk through the
  // window, and who asks may ask more often than there is a step.
  mutable int64_t counted_hits_ = 0;
  mutable int64_t counted_accesses_ = 0;
};

}  // namespace pregate

#endif  // PREGATE_ENGINE_PLAN_SHADOW_CACHE_H_
