#include "kernels/cpu/gated_rows.h"

#include <cassert>

#include "kernels/cpu/work_split.h"

namespace pregate {

void RunGatedRows(Device& device, absl::Span<const GatedRows> groups, GateSpanFunction span) {
  StripList strips;
  for (const auto& [gate, up, owned, out] : groups) {
    assert(gate.rows == out.rows && gate.cols == out.cols);
    assert(!up || (up.rows == out.rows && up.cols == out.cols));
    assert(owned.empty() || 32 * static_cast<int64_t>(owned.size()) >= out.cols);
    strips.Add(out.rows, out.cols, 3 * sizeof(float));
  }
  strips.Run(device, [&](int64_t group, int64_t r, int64_t begin, int64_t end) {
    const auto& [gate, up, owned, out] = groups[static_cast<size_t>(group)];
    span(gate.Row<float>(r) + begin, up ? up.Row<float>(r) + begin : nullptr,
         owned.empty() ? nullptr : owned.data() + begin / 32, end - begin,
         out.Row<float>(r) + begin);
  });
}

}  // namespace pregate
