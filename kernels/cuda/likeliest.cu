// The likeliest tokens of each row of logits. Blocks find the k largest of segments of a row; then
// one block a row finds the k largest of those lists, which is the same task again.
//
// A block's logits lie in the registers of its threads, as integers in the order of the floats
// (keys). The k-th largest key is found by halving an interval and counting the keys above its
// middle; where it comes more often than there are places, the position up to which it belongs to
// them is found likewise. So equal logits are told apart by position, which is the order of ids,
// and no row takes more than about 50 counts, whatever stands in it.
#include <algorithm>
#include <cassert>

#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/likeliest.h"
#include "kernels/cuda/logit_row.h"
#include "kernels/cuda/ordered_keys.h"

namespace pregate::cuda {
namespace {

constexpr int kSegmentThreads = 256;
constexpr int kSegmentItems = 32;  // of a thread
constexpr int kSegment = kSegmentThreads * kSegmentItems;
// A row's lists fit one block: those of 64 tokens and up to 262144 logits the smaller one.
constexpr int kMergeThreads = 256, kMergeItems = 8;
constexpr int kLargeMergeThreads = 512, kLargeMergeItems = 64;
constexpr int kTotalThreads = 1024;
static_assert(kMaxLikeliestVocab / kSegment * kMaxLikeliest <=
              kLargeMergeThreads * kLargeMergeItems);
static_assert(kMaxLikeliest <= kSegmentThreads && kMaxLikeliest <= kMergeThreads);
// Segments of each multiprocessor in a pass over rows: enough to keep it busy, and few enough that
// their lists, 2 KiB each at most, need little memory.
constexpr int64_t kSegmentsInPass = 32;

constexpr uint32_t kNoKey = 0;  // below that of every logit
constexpr uint32_t kMinusInfinityKey = 0x007FFFFF;

// The key of a logit that has these bits: a NaN's is that of -infinity, +infinity's that of the
// largest float, and zeros of both signs have one.
__device__ __forceinline__ uint32_t KeyOf(uint32_t bits) {
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) bits = 0xFF800000u;
  if (bits == 0x7F800000u) bits = 0x7F7FFFFFu;
  if (bits == 0x80000000u) bits = 0;
  return OrderedKey(bits);
}
__device__ __forceinline__ float ValueOf(uint32_t key) {
  return FloatOfKey(key < kMinusInfinityKey ? kMinusInfinityKey : key);
}

// Position of the i-th item of a thread, ascending with i: threads take four in a row.
template <int kThreads>
__device__ __forceinline__ int PositionOf(int i) {
  return 4 * (i / 4 * kThreads + static_cast<int>(threadIdx.x)) + i % 4;
}

// What the threads of a block share.
struct Room {
  alignas(8) char partial[2][8 * kWarp];  // of reductions: 8 bytes for each warp
  uint64_t list[kMaxLikeliest];
  int listed;
};

// Reductions over a block, in one order; every thread gets the result. Two in a row use different
// halves of the room, so that none need wait until everybody has read the one before.
template <int kThreads>
struct Reducer {
  Room* room;
  int half = 0;

  template <typename T, typename Combine>
  __device__ T operator()(T value, const Combine& combine) {
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      value = combine(value, __shfl_xor_sync(kAllLanes, value, offset));
    }
    T* const partial = reinterpret_cast<T*>(room->partial[half]);
    half ^= 1;
    if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = partial[0];
    for (int warp = 1; warp < kThreads / kWarp; ++warp) value = combine(value, partial[warp]);
    return value;
  }
  template <typename T>
  __device__ T Sum(T value) {
    return (*this)(value, [](T a, T b) { return a + b; });
  }
};

// Which items belong to the k largest: those above `key`, and those that equal it before
// `position`.
struct Bound {
  uint32_t key;
  int position;
};

// `largest` is the largest key of the block, `own_largest` of the thread. k <= kThreads.
template <int kThreads, int kItems>
__device__ Bound FindBound(const uint32_t (&keys)[kItems], int k, uint32_t largest,
                           uint32_t own_largest, Reducer<kThreads>& reduce) {
  constexpr int kBehindAll = kThreads * kItems;
  const auto count_from = [&](uint32_t bound) {
    int count = 0;
    for (int i = 0; i < kItems; ++i) count += keys[i] >= bound ? 1 : 0;
    return reduce.Sum(count);
  };
  if (count_from(kNoKey + 1) <= k) return {kNoKey + 1, kBehindAll};

  // Each thread has a key as large as the smallest of the threads' largest: that makes k at least.
  uint32_t low = reduce(own_largest, [](uint32_t a, uint32_t b) { return a < b ? a : b; });
  if (low == kNoKey) low = kNoKey + 1;
  uint32_t high = largest + 1;
  int above = 0;  // keys from `high` on; fewer than k, while from `low` on there are k or more
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    const int count = count_from(middle);
    if (count == k) return {middle, kBehindAll};
    if (count > k) {
      low = middle;
    } else {
      high = middle;
      above = count;
    }
  }
  // Of the items that equal `low`, k - above belong: more than lie before `begin`, and no more
  // than lie before `end`.
  int begin = 0, end = kBehindAll;
  while (end - begin > 1) {
    const int middle = (begin + end) / 2;
    int count = 0;
    for (int i = 0; i < kItems; ++i) {
      count += keys[i] == low && PositionOf<kThreads>(i) < middle ? 1 : 0;
    }
    count = reduce.Sum(count);
    if (count == k - above) return {low, middle};
    if (count < k - above) {
      begin = middle;
    } else {
      end = middle;
    }
  }
  return {low, end};
}

// What a thread holds of a list, and its place there.
struct Listed {
  uint64_t entry;
  int place;
};

// The k largest items of the block, one for each of the first k threads, and the largest entry for
// all: `largest`. Where there are fewer than k items, the last places have entries of 0. There is
// one item at least.
template <int kThreads, int kItems>
__device__ Listed ListLargest(const uint32_t (&keys)[kItems], int k, Reducer<kThreads>& reduce,
                              uint64_t* largest) {
  const int thread = static_cast<int>(threadIdx.x);
  uint32_t own_largest = kNoKey;
  int own_item = 0;
  for (int i = kItems - 1; i >= 0; --i) {
    if (keys[i] < own_largest) continue;
    own_largest = keys[i];
    own_item = i;
  }
  *largest = reduce(EntryOf(own_largest, PositionOf<kThreads>(own_item)),
                    [](uint64_t a, uint64_t b) { return a > b ? a : b; });
  if (k == 1) return {*largest, thread};

  const Bound bound = FindBound(keys, k, KeyOfEntry(*largest), own_largest, reduce);
  Room& room = *reduce.room;
  if (thread == 0) room.listed = 0;
  __syncthreads();
  for (int i = 0; i < kItems; ++i) {
    if (keys[i] < bound.key) continue;
    const int position = PositionOf<kThreads>(i);
    if (keys[i] > bound.key || position < bound.position) {
      room.list[atomicAdd(&room.listed, 1)] = EntryOf(keys[i], position);
    }
  }
  __syncthreads();
  if (thread >= room.listed) return {0, thread};
  // Entries differ: the place of each is the number of larger ones, in whatever order they came.
  Listed own = {room.list[thread], 0};
  for (int other = 0; other < room.listed; ++other) own.place += room.list[other] > own.entry;
  return own;
}

// Lists of the k largest of each segment: keys and ids [rows][segments][k] in descending order.
struct Lists {
  uint32_t* keys;
  int32_t* ids;
};

// The keys of `count` logits from `logits` on, kNoKey behind them.
__device__ __forceinline__ void LoadKeys(const float* logits, int count,
                                         uint32_t (&keys)[kSegmentItems]) {
  if (count == kSegment && reinterpret_cast<uintptr_t>(logits) % sizeof(uint4) == 0) {
    uint4 quads[kSegmentItems / 4];
    for (int j = 0; j < kSegmentItems / 4; ++j) {
      const float* const from = logits + PositionOf<kSegmentThreads>(4 * j);
      quads[j] = LoadOnce(reinterpret_cast<const uint4*>(from));
    }
    for (int j = 0; j < kSegmentItems / 4; ++j) {
      keys[4 * j] = KeyOf(quads[j].x);
      keys[4 * j + 1] = KeyOf(quads[j].y);
      keys[4 * j + 2] = KeyOf(quads[j].z);
      keys[4 * j + 3] = KeyOf(quads[j].w);
    }
    return;
  }
  for (int i = 0; i < kSegmentItems; ++i) {
    const int position = PositionOf<kSegmentThreads>(i);
    keys[i] = position < count ? KeyOf(__float_as_uint(logits[position])) : kNoKey;
  }
}

// Block (s, r): segment s of row r.
__global__ void __launch_bounds__(kSegmentThreads, 4)
    SegmentKernel(LogitRows rows, int64_t first_row, int k, Lists lists) {
  Reducer<kSegmentThreads> reduce{SharedArray<Room>()};
  const int thread = static_cast<int>(threadIdx.x);
  const int begin = static_cast<int>(blockIdx.x) * kSegment;
  const int left = rows.vocab - begin;
  int64_t row = first_row + blockIdx.y;
  if (rows.draws != nullptr) row = rows.draws[row].row;
  uint32_t keys[kSegmentItems];
  LoadKeys(rows.logits.Row<float>(row) + begin, left < kSegment ? left : kSegment, keys);

  uint64_t largest;
  const Listed own = ListLargest(keys, k, reduce, &largest);
  const int64_t list = int64_t{blockIdx.y} * gridDim.x + blockIdx.x;
  if (thread >= k) return;
  lists.keys[list * k + own.place] = KeyOfEntry(own.entry);
  lists.ids[list * k + own.place] = own.entry == 0 ? -1 : begin + PositionOfEntry(own.entry);
}

// Block r merges the lists of row r. Equal keys lie in the order of their ids, within a list and
// from list to list.
template <int kThreads, int kItems>
__global__ void __launch_bounds__(kThreads)
    MergeKernel(Lists lists, int num_lists, int k, int32_t* ids, float* values) {
  Reducer<kThreads> reduce{SharedArray<Room>()};
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t row = blockIdx.x;
  const int count = num_lists * k;
  uint32_t keys[kItems];
  for (int i = 0; i < kItems; ++i) {
    const int position = PositionOf<kThreads>(i);
    keys[i] = position < count ? lists.keys[row * count + position] : kNoKey;
  }
  uint64_t largest;
  const Listed own = ListLargest(keys, k, reduce, &largest);
  if (thread >= k) return;
  const int64_t place = row * k + own.place;
  ids[place] = own.entry == 0 ? -1 : lists.ids[row * count + PositionOfEntry(own.entry)];
  values[place] = ValueOf(KeyOfEntry(own.entry));
}

// Block r: what the tokens of row r weigh, whose largest logit is values[r, 0].
__global__ void __launch_bounds__(kTotalThreads)
    TotalKernel(ConstTensor logits, int vocab, const float* values, int k, float scale,
                double* totals) {
  const int64_t r = blockIdx.x;
  const LogitRow row = {logits.Row<float>(r), vocab, values[r * k], scale};
  const uint64_t sum = row.largest > -INFINITY ? RowSum(row, SharedArray<uint64_t>()) : uint64_t{0};
  if (threadIdx.x == 0) totals[r] = static_cast<double>(sum) * kWeightUnit;
}

int64_t ListsOf(int32_t vocab) { return Blocks(vocab, kSegment); }

// Rows whose lists are in memory at a time.
int64_t RowsInPass(Device& device, const LogitRows& rows) {
  const int64_t fitting = AsGpu(device).multiprocessors() * kSegmentsInPass / ListsOf(rows.vocab);
  return std::clamp<int64_t>(fitting, 1, std::max<int64_t>(rows.count, 1));
}

}  // namespace

size_t ListLikeliestScratch(Device& device, const LogitRows& rows, int32_t k) {
  const int64_t listed = RowsInPass(device, rows) * ListsOf(rows.vocab) * k;
  return static_cast<size_t>(listed) * (sizeof(uint32_t) + sizeof(int32_t));
}

void ListLikeliest(Device& device, const LogitRows& rows, int32_t k, void* scratch, int32_t* ids,
                   float* values) {
  const int64_t num_lists = ListsOf(rows.vocab), pass = RowsInPass(device, rows);
  auto* const keys = static_cast<uint32_t*>(scratch);
  const Lists lists = {keys, reinterpret_cast<int32_t*>(keys + pass * num_lists * k)};
  const bool large = num_lists * k > kMergeThreads * kMergeItems;
  const unsigned threads = large ? kLargeMergeThreads : kMergeThreads;
  for (int64_t first = 0; first < rows.count; first += pass) {
    const auto count = static_cast<unsigned>(std::min(pass, rows.count - first));
    Launch(device, SegmentKernel,
           {{static_cast<unsigned>(num_lists), count}, {kSegmentThreads}, sizeof(Room)}, rows,
           first, k, lists);
    Launch(device,
           large ? MergeKernel<kLargeMergeThreads, kLargeMergeItems>
                 : MergeKernel<kMergeThreads, kMergeItems>,
           {{count}, {threads}, sizeof(Room)}, lists, static_cast<int>(num_lists), k,
           ids + first * k, values + first * k);
  }
}

void Likeliest(Device& device, ConstTensor logits, int32_t vocab, int32_t k, int32_t* ids,
               float* values, double* totals) {
  assert(vocab >= 1 && vocab <= kMaxLikeliestVocab && logits.cols >= vocab);
  assert(k >= 1 && k <= kMaxLikeliest);
  if (logits.rows == 0) return;
  const LogitRows rows = {logits, vocab, nullptr, logits.rows};
  ListLikeliest(device, rows, k, AsGpu(device).Scratch(ListLikeliestScratch(device, rows, k)), ids,
                values);
  if (totals == nullptr) return;
  Launch(device, TotalKernel,
         {{static_cast<unsigned>(logits.rows)}, {kTotalThreads}, kWarp * sizeof(uint64_t)}, logits,
         vocab, values, k, WeightScale(1.0f), totals);
}

}  // namespace pregate::cuda
