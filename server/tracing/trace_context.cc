#include "server/tracing/trace_context.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace pregate {
namespace {

// "00-" trace id "-" parent id "-" flags
constexpr size_t kVersion00Length = 55;
constexpr size_t kTraceIdAt = 3, kSpanIdAt = 36, kFlagsAt = 53;

// Of a list of vendors (W3C Trace Context, 3.3).
constexpr size_t kMaxMembers = 32;
constexpr size_t kMaxStateBytes = 512;
constexpr size_t kLongMember = 128;  // those that are longer give way first
constexpr size_t kMaxKeyBytes = 256;
constexpr size_t kMaxValueBytes = 256;

int DigitOf(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// False when `text` is not two lower-case hex digits for each byte.
bool ReadHex(absl::string_view text, absl::Span<uint8_t> to) {
  for (size_t i = 0; i < to.size(); ++i) {
    const int high = DigitOf(text[2 * i]), low = DigitOf(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    to[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

bool ReadTraceparent(absl::string_view text, TraceContext* context) {
  if (text.size() < kVersion00Length) return false;
  if (text[kTraceIdAt - 1] != '-' || text[kSpanIdAt - 1] != '-' || text[kFlagsAt - 1] != '-') {
    return false;
  }
  uint8_t version = 0, flags = 0;
  if (!ReadHex(text, absl::MakeSpan(&version, 1)) || version == 0xff) return false;
  // Later versions may say more, behind another dash.
  if (text.size() > kVersion00Length && (version == 0 || text[kVersion00Length] != '-')) {
    return false;
  }
  if (!ReadHex(text.substr(kTraceIdAt), absl::MakeSpan(context->trace_id)) ||
      !ReadHex(text.substr(kSpanIdAt), absl::MakeSpan(context->span_id)) ||
      !ReadHex(text.substr(kFlagsAt), absl::MakeSpan(&flags, 1))) {
    return false;
  }
  context->flags = flags & (kSampledFlag | kRandomFlag);
  return context->trace_id != TraceId{} && context->span_id != SpanId{};
}

bool IsKey(absl::string_view key) {
  if (key.empty() || key.size() > kMaxKeyBytes) return false;
  if (!absl::ascii_islower(key[0]) && !absl::ascii_isdigit(key[0])) return false;
  return std::all_of(key.begin(), key.end(), [](char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c) ||
           absl::StrContains("_-*/@", absl::string_view(&c, 1));
  });
}

// Without the spaces around it.
bool IsValue(absl::string_view value) {
  if (value.empty() || value.size() > kMaxValueBytes) return false;
  return std::all_of(value.begin(), value.end(),
                     [](char c) { return c >= ' ' && c <= '~' && c != ',' && c != '='; });
}

bool IsMember(absl::string_view member) {
  const size_t equals = member.find('=');
  return equals != absl::string_view::npos && IsKey(member.substr(0, equals)) &&
         IsValue(member.substr(equals + 1));
}

size_t BytesOf(const std::vector<absl::string_view>& members) {
  size_t bytes = members.size();  // the commas, one too many
  for (const absl::string_view member : members) bytes += member.size();
  return bytes - (members.empty() ? 0 : 1);
}

std::string ReadTracestate(absl::Span<const absl::string_view> values) {
  std::vector<absl::string_view> members;
  for (const absl::string_view value : values) {
    for (absl::string_view member : absl::StrSplit(value, ',')) {
      member = absl::StripAsciiWhitespace(member);
      if (member.empty()) continue;
      if (!IsMember(member) || members.size() == kMaxMembers) return "";
      members.push_back(member);
    }
  }
  while (BytesOf(members) > kMaxStateBytes) {
    auto last_long = std::find_if(members.rbegin(), members.rend(), [](absl::string_view member) {
      return member.size() > kLongMember;
    });
    members.erase(last_long == members.rend() ? members.end() - 1 : last_long.base() - 1);
  }
  return absl::StrJoin(members, ",");
}

}  // namespace

TraceContext ReadTraceContext(absl::Span<const absl::string_view> traceparents,
                              absl::Span<const absl::string_view> tracestates) {
  TraceContext context;
  if (traceparents.size() != 1 || !ReadTraceparent(traceparents[0], &context)) return {};
  context.state = ReadTracestate(tracestates);
  return context;
}

}  // namespace pregate
