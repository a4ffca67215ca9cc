// Draws a token of each of some rows of logits, where the logits are.
//
// Blocks list the likeliest tokens of all rows (likeliest.cu); then one block has each row. What
// the filters keep mostly stands in the list. Else the block walks the row: a nucleus that the list
// does not hold is found by halving, or rather by cutting into eight, the interval of the weights
// at which it can end, with the sum of all larger weights at each cut. Weights are summed as
// integers, so that no order of addition matters.
#include <algorithm>
#include <cassert>

#include "kernels/cuda/entries.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/likeliest.h"
#include "kernels/cuda/logit_row.h"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kWarp;
static_assert(kWarps == kWarp && kMaxLikeliest <= kThreads);
constexpr int kCuts = 7;  // of an interval
// Tokens that are listed for a row with top_p alone: a nucleus rarely has more.
constexpr int32_t kNucleus = 64;

// What the threads of a block share.
struct Room {
  uint64_t sums[kCuts][kWarps];
  uint64_t totals[kCuts];
  float weights[kMaxLikeliest];  // of listed tokens
  int32_t ids[kMaxLikeliest];
  uint64_t units[kMaxLikeliest];  // of those that are kept
  int drawn;
};

// The sum that has to be exceeded: `uniform` of `total`, and less than it.
__device__ __forceinline__ uint64_t Target(double uniform, uint64_t total) {
  const auto target = static_cast<uint64_t>(__dmul_rn(uniform, static_cast<double>(total)));
  return target < total ? target : total - 1;
}

// The first id with which the sum of amount(id), from 0 on, exceeds target(sum of all), which must
// be less than that sum. Each warp sums a stretch of ids, and the stretch that passes the target is
// cut anew.
template <typename Amount, typename TargetOf>
__device__ int FirstPast(int vocab, const Amount& amount, const TargetOf& target_of, Room* room) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  uint64_t* const sums = room->sums[0];
  uint64_t target = 0;
  int begin = 0, end = vocab;
  while (end - begin > 1) {
    const int stretch = (end - begin + kWarps - 1) / kWarps;
    const int first = begin + warp * stretch;
    const int last = first + stretch < end ? first + stretch : end;
    uint64_t sum = 0;
    for (int id = first + lane; id < last; id += kWarp) sum += amount(id);
    sum = WarpSum(sum);
    if (lane == 0) sums[warp] = sum;
    __syncthreads();
    if (end - begin == vocab) target = target_of(WarpSum(sums[lane]));
    int passing = 0;
    for (; passing < kWarps - 1 && sums[passing] <= target; ++passing) target -= sums[passing];
    begin += passing * stretch;
    end = begin + stretch < end ? begin + stretch : end;
    __syncthreads();  // the sums have been read
  }
  return begin;
}

// Tokens with a weight above that of these bits, and those of this weight up to an id.
struct Nucleus {
  uint32_t bits;
  int last;
};

// The shortest run of a row's tokens, by descending weight and then ascending id, that weighs
// `needed` units or more: above 0, and no more than all weigh.
__device__ Nucleus FindNucleus(const LogitRow& row, double needed, Room* room) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  // Tokens from `low` on weigh enough, those from `high` on, `above`, do not.
  uint32_t low = __float_as_uint(static_cast<float>(kWeightUnit)), high = __float_as_uint(1.0f) + 1;
  uint64_t above = 0;
  while (high - low > 1) {
    const uint32_t step = (high - low + kCuts) / (kCuts + 1);
    const auto cut = [&](int i) {
      const uint32_t at = low + static_cast<uint32_t>(i + 1) * step;
      return at < high ? at : high;
    };
    uint64_t sums[kCuts] = {};
    for (int id = static_cast<int>(threadIdx.x); id < row.vocab; id += kThreads) {
      const float weight = row.Weight(id);
      const uint32_t bits = __float_as_uint(weight);
      const uint64_t units = UnitsOf(weight);
      for (int i = 0; i < kCuts; ++i) sums[i] += bits >= cut(i) ? units : 0;
    }
    for (int i = 0; i < kCuts; ++i) {
      const uint64_t sum = WarpSum(sums[i]);
      if (lane == 0) room->sums[i][warp] = sum;
    }
    __syncthreads();
    if (warp < kCuts) {
      const uint64_t total = WarpSum(room->sums[warp][lane]);
      if (lane == 0) room->totals[warp] = total;
    }
    __syncthreads();
    int enough = 0;  // cuts from which on tokens weigh enough: the lowest ones
    while (enough < kCuts && static_cast<double>(room->totals[enough]) >= needed) ++enough;
    const uint32_t next_low = enough > 0 ? cut(enough - 1) : low;
    if (enough < kCuts) {
      above = room->totals[enough];
      high = cut(enough);
    }
    low = next_low;
    __syncthreads();  // the totals have been read
  }
  // Of the tokens of that weight as many as are needed, by their ids.
  const uint64_t each = UnitsOf(__uint_as_float(low));
  auto equal =
      static_cast<uint64_t>((needed - static_cast<double>(above)) / static_cast<double>(each));
  while (static_cast<double>(above + equal * each) < needed) ++equal;
  while (equal > 1 && static_cast<double>(above + (equal - 1) * each) >= needed) --equal;
  const auto amount = [&](int id) -> uint64_t {
    return __float_as_uint(row.Weight(id)) == low ? 1 : 0;
  };
  return {low, FirstPast(
                   row.vocab, amount, [=](uint64_t) { return equal - 1; }, room)};
}

// The place in the list of the token that is drawn of the first `count`, of which those are kept
// before which less than `needed` units come by weight, and which weigh min_p.
__device__ int DrawFromList(int count, double needed, const TokenDraw& draw, Room* room) {
  const int own = static_cast<int>(threadIdx.x);
  const float weight = own < count ? room->weights[own] : 0.0f;
  const int32_t id = own < count ? room->ids[own] : 0;
  uint64_t units = own < count && weight >= draw.min_p ? UnitsOf(weight) : 0;
  if (units > 0 && draw.top_p < 1.0f) {
    uint64_t likelier = 0;
    for (int other = 0; other < count; ++other) {
      const float theirs = room->weights[other];
      if (theirs > weight || (theirs == weight && room->ids[other] < id)) {
        likelier += UnitsOf(theirs);
      }
    }
    if (static_cast<double>(likelier) >= needed) units = 0;
  }
  if (own < count) room->units[own] = units;
  const uint64_t target = Target(draw.uniform, BlockSum(units, room->sums[0]));
  if (units > 0) {
    uint64_t before = 0;
    for (int other = 0; other < count; ++other) {
      if (room->ids[other] < id) before += room->units[other];
    }
    if (before <= target && target < before + units) room->drawn = own;
  }
  __syncthreads();
  return room->drawn;
}

// The token of a row whose list does not hold all that may be drawn.
__device__ int DrawFromRow(const LogitRow& row, double needed, const TokenDraw& draw, Room* room) {
  const Nucleus nucleus =
      draw.top_p < 1.0f ? FindNucleus(row, needed, room) : Nucleus{0, row.vocab};
  const auto kept = [&](int id) -> uint64_t {
    const float weight = row.Weight(id);
    const uint32_t bits = __float_as_uint(weight);
    const bool inside = bits > nucleus.bits || (bits == nucleus.bits && id <= nucleus.last);
    return inside && weight >= draw.min_p ? UnitsOf(weight) : 0;
  };
  return FirstPast(
      row.vocab, kept, [&](uint64_t total) { return Target(draw.uniform, total); }, room);
}

// Block i: draws[i], of whose row the `listed` likeliest are given.
__global__ void __launch_bounds__(kThreads)
    DrawKernel(ConstTensor logits, int vocab, const TokenDraw* draws, int listed,
               const int32_t* list_ids, const float* list_values, int32_t* ids, float* values) {
  Room* const room = SharedArray<Room>();
  const int own = static_cast<int>(threadIdx.x);
  const TokenDraw draw = draws[blockIdx.x];
  list_ids += int64_t{blockIdx.x} * listed;
  list_values += int64_t{blockIdx.x} * listed;
  const LogitRow row = {logits.Row<float>(draw.row), vocab, list_values[0], draw.scale};
  int32_t drawn = list_ids[0];
  if (row.largest > -INFINITY && draw.top_k != 1) {
    const int wanted = draw.top_k > 0 ? draw.top_k : listed;
    const int count = wanted < vocab ? wanted : vocab;
    const bool all = draw.top_k > 0 || count == vocab;  // that may be drawn
    float weight = 0.0f;
    if (own < count) {
      weight = row.WeightOf(list_values[own]);
      room->weights[own] = weight;
      room->ids[own] = list_ids[own];
    }
    double needed = INFINITY;
    bool in_list = all;
    if (draw.top_p < 1.0f) {
      const uint64_t total =
          all ? BlockSum(UnitsOf(weight), room->sums[0]) : RowSum(row, room->sums[0]);
      needed = __dmul_rn(double{draw.top_p}, static_cast<double>(total));
      // What a token that is not listed may weigh; rounding may lift it above a larger logit's.
      const float rest = room->weights[count - 1] * (1 + 1e-6f) + static_cast<float>(kWeightUnit);
      const uint64_t certain = BlockSum(weight > rest ? UnitsOf(weight) : 0, room->sums[0]);
      in_list = all || static_cast<double>(certain) >= needed;
    }
    __syncthreads();  // the list is there
    drawn = in_list ? room->ids[DrawFromList(count, needed, draw, room)]
                    : DrawFromRow(row, needed, draw, room);
  }
  if (own == 0) {
    ids[blockIdx.x] = drawn;
    values[blockIdx.x] = CountedLogit(row.logits[drawn]);
  }
}

// How many of the likeliest tokens a draw should begin with.
int32_t TokensToList(const TokenDraw& draw) {
  assert(draw.top_k >= 0 && draw.top_k <= kMaxLikeliest);
  if (draw.top_k > 0) return draw.top_k;
  return draw.top_p < 1.0f ? kNucleus : 1;
}

}  // namespace

void DrawTokens(Device& device, ConstTensor logits, int32_t vocab,
                absl::Span<const TokenDraw> draws, int32_t* ids, float* values) {
  assert(vocab >= 1 && vocab <= kMaxLikeliestVocab && logits.cols >= vocab);
  if (draws.empty()) return;
  int32_t listed = 1;
  for (const TokenDraw& draw : draws) listed = std::max(listed, TokensToList(draw));
  const size_t list = draws.size() * static_cast<size_t>(listed);
  LogitRows rows = {logits, vocab, nullptr, static_cast<int64_t>(draws.size())};
  const size_t draw_bytes = draws.size() * sizeof(TokenDraw), list_bytes = list * 8;
  auto* const scratch = static_cast<char*>(
      AsGpu(device).Scratch(draw_bytes + list_bytes + ListLikeliestScratch(device, rows, listed)));
  device.CopyToDevice(scratch, draws.data(), draw_bytes);
  rows.draws = reinterpret_cast<const TokenDraw*>(scratch);
  auto* const list_ids = reinterpret_cast<int32_t*>(scratch + draw_bytes);
  auto* const list_values = reinterpret_cast<float*>(list_ids + list);
  ListLikeliest(device, rows, listed, list_values + list, list_ids, list_values);
  Launch(device, DrawKernel, {{static_cast<unsigned>(draws.size())}, {kThreads}, sizeof(Room)},
         logits, vocab, rows.draws, listed, list_ids, list_values, ids, values);
}

}  // namespace pregate::cuda
