// Any bytes as the headers `traceparent` and `tracestate`, one to a line, the first byte of which
// says which it is: ignored, or a context that says only what may be passed on.
#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/tracing/trace_context.h"
#include "tests/fuzz/fuzz_target.h"

namespace pregate {
namespace {

constexpr char kParent[] = "p00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
constexpr size_t kMaxStateBytes = 512;
constexpr ptrdiff_t kMaxMembers = 32;

void Check(bool holds) {
  if (!holds) std::abort();
}

// What a caller would have sent for this context is read as this context.
void CheckReadAgain(const TraceContext& context) {
  const std::string flags = HexOf(std::array<uint8_t, 1>{context.flags});
  const std::string parent =
      absl::StrCat("00-", HexOf(context.trace_id), "-", HexOf(context.span_id), "-", flags);
  const TraceContext again = ReadTraceContext({parent}, {context.state});
  Check(again.trace_id == context.trace_id && again.span_id == context.span_id &&
        again.flags == context.flags && again.state == context.state);
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {kParent,
          absl::StrCat(kParent, "\nsrojo=00f067aa0ba902b7,congo=t61rcWkgMzE\nsvendor@system=a b"),
          "pcc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-what-comes-later",
          absl::StrCat(kParent, "\nslong=", std::string(200, 'x'), ",", "other=",  // NOLINT
                       std::string(250, 'y'), ",third=", std::string(120, 'z'))};
}

}  // namespace pregate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pregate;  // NOLINT: the whole body speaks of it
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<absl::string_view> parents, states;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line.empty()) continue;
    (line[0] == 'p' ? parents : states).push_back(line.substr(1));
  }
  const TraceContext context = ReadTraceContext(parents, states);
  if (!context.valid()) {
    Check(context.state.empty() && context.span_id == SpanId{} && context.flags == 0);
    return 0;
  }
  Check(parents.size() == 1 && context.span_id != SpanId{});
  Check((context.flags & ~(kSampledFlag | kRandomFlag)) == 0);
  Check(context.state.size() <= kMaxStateBytes);
  Check(std::count(context.state.begin(), context.state.end(), ',') < kMaxMembers);
  Check(std::all_of(context.state.begin(), context.state.end(),
                    [](char c) { return c >= ' ' && c <= '~'; }));
  CheckReadAgain(context);
  return 0;
}
