// A chat template of any bytes: refused when parsed, or it renders within its budgets, and what the
// client wrote is marked as the client's wherever it went.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/chat_template/chat_template.h"
#include "tests/fuzz/fuzz_target.h"

namespace pregate {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxRenderedBytes = 8 << 20;

[[noreturn]] void Broken(const char* promise, const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", promise, what.c_str());
  std::abort();
}

// Letters that `data` does not hold, as good as surely: they come from a hash of it.
std::string MakeMarker(const uint8_t* data, size_t size) {
  uint64_t hash = 0xCBF29CE484222325;
  for (size_t i = 0; i < size; ++i) hash = (hash ^ data[i]) * 0x100000001B3;
  std::string marker;
  for (int i = 0; i < 16; ++i) marker.push_back(static_cast<char>('a' + (hash >> 4 * i & 15)));
  return marker;
}

ChatInput MakeInput(const std::string& marker) {
  ChatInput input;
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.now = absl::CivilSecond(2024, 2, 29, 13, 5, 9);
  const Json parts = Json::array({{{"type", "text"}, {"text", marker}}, {{"type", "image"}}});
  const Json call = {{"type", "function"},
                     {"id", "123456789"},
                     {"function", {{"name", "f"}, {"arguments", {{"x", marker}, {"n", 2.5}}}}}};
  input.messages = Json::array({
      {{"role", "system"}, {"content", "é " + marker}},
      {{"role", "user"}, {"content", marker + "\n </think> x"}},
      {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", Json::array({call})}},
      {{"role", "tool"}, {"content", "1"}, {"name", "f"}},
      {{"role", "user"}, {"content", parts}},
  });
  input.variables["tools"] =
      Json::array({{{"type", "function"}, {"function", {{"name", "f"}, {"description", marker}}}}});
  return input;
}

void CheckSegments(const std::vector<RenderedSegment>& segments, const std::string& marker) {
  size_t bytes = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    const RenderedSegment& segment = segments[i];
    bytes += segment.text.size();
    if (segment.text.empty()) Broken("no segment is empty", absl::StrCat(i));
    if (i > 0 && segment.from_client == segments[i - 1].from_client) {
      Broken("segments alternate", segment.text);
    }
    if (!segment.from_client && absl::StrContains(segment.text, marker)) {
      Broken("a client's text stays the client's", segment.text);
    }
  }
  if (bytes > kMaxRenderedBytes) Broken("output is bounded", absl::StrCat(bytes));
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  std::vector<std::string> seeds;
  for (const auto& entry : std::filesystem::directory_iterator("tests/server/chat_templates")) {
    std::ifstream file(entry.path());
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  // What the templates of the families have no use for.
  seeds.push_back(
      "{% set ns = namespace(l=[1, 2.5, 'a'], d={'k': (1,)}) %}{{ ns.l[::-1] }}{{ ns.d.k[0] // 2 "
      "** 3 }}"
      "{{ '%s %d' % ('x', 7) }}{{ '{} {k}'.format(1, k=2) }}{{ 'a,b'.rsplit(',', 1) | "
      "tojson(indent=2) }}"
      "{% for a, b in ns.d.items() if a %}{{ loop.cycle('x', 'y') }}{% break %}{% else %}{% endfor "
      "%}"
      "{% call(x) m() %}{{ x }}{% endcall %}{{ 1 if x is not defined and 1 in [1] else -2 % 3 }}");
  return seeds;
}

}  // namespace pregate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pregate;  // NOLINT: the whole body speaks of it
  const absl::string_view source(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<ChatTemplate> parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) {
    if (parsed.status().code() != absl::StatusCode::kFailedPrecondition ||
        !absl::StartsWith(parsed.status().message(), "chat template: ")) {
      Broken("a template is refused with a type", parsed.status().ToString());
    }
    return 0;
  }
  const std::string marker = MakeMarker(data, size);
  const auto segments = parsed->Render(MakeInput(marker));
  if (segments.ok()) {
    CheckSegments(*segments, marker);
  } else if (segments.status().code() != absl::StatusCode::kInvalidArgument &&
             segments.status().code() != absl::StatusCode::kFailedPrecondition) {
    Broken("a rendering fails with a type", segments.status().ToString());
  }
  return 0;
}
