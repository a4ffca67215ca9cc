#include "server/tracing/resource.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace pregate {
namespace {

void Set(const std::string& key, AttributeValue value, Attributes* to) {
  auto found = std::find_if(to->begin(), to->end(),
                            [&key](const auto& attribute) { return attribute.first == key; });
  if (found == to->end()) {
    to->emplace_back(key, std::move(value));
  } else {
    found->second = std::move(value);
  }
}

std::string HostName() {
  std::array<char, 256> name = {};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

// "%2C" is a comma; a '%' without two hex digits behind it stays as it is.
std::string Decoded(absl::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && absl::ascii_isxdigit(text[i + 1]) &&
        absl::ascii_isxdigit(text[i + 2])) {
      decoded += absl::HexStringToBytes(text.substr(i + 1, 2));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

}  // namespace

Attributes ResourceOf(
    const std::function<std::optional<std::string>(const std::string& name)>& get_env) {
  const std::string host = HostName();
  Attributes resource = {
      {"service.name", "pregate"},
      {"service.version", PREGATE_VERSION},
      {"service.instance.id", absl::StrCat(host, "-", getpid())},
      {"host.name", host},
      {"process.pid", int64_t{getpid()}},
  };
  const std::string listed = get_env("OTEL_RESOURCE_ATTRIBUTES").value_or("");
  for (const absl::string_view pair : absl::StrSplit(listed, ',', absl::SkipWhitespace())) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(pair, absl::MaxSplits('=', 1));
    const std::string key(absl::StripAsciiWhitespace(parts.first));
    if (!key.empty()) Set(key, Decoded(absl::StripAsciiWhitespace(parts.second)), &resource);
  }
  const std::string name = get_env("OTEL_SERVICE_NAME").value_or("");
  if (!name.empty()) Set("service.name", name, &resource);
  return resource;
}

}  // namespace pregate
