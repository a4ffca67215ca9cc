#include "server/config/config_file.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace pregate {
namespace {

using Values = std::map<std::string, std::string>;

absl::Status Refuse(absl::string_view rule, absl::string_view got) {
  return absl::InvalidArgumentError(absl::StrCat("config: ", rule, "; got ", got));
}

absl::string_view KindOf(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Null:
      return "nothing";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a map";
    default:
      return "a value";
  }
}

absl::Status ReadEntry(const YAML::Node& key, const YAML::Node& value,
                       const std::vector<Flag>& flags, Values* values) {
  if (!key.IsScalar()) return Refuse("keys must be names of flags", KindOf(key));
  const std::string name = absl::StrReplaceAll(key.Scalar(), {{"_", "-"}});
  const bool known =
      std::any_of(flags.begin(), flags.end(), [&](const Flag& flag) { return flag.name == name; });
  if (!known) return UnknownName(name, "key in the configuration file", flags);
  if (!value.IsScalar()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": must have one value; got ", KindOf(value)));
  }
  if (!values->emplace(name, value.Scalar()).second) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": must stand once in the configuration file; got it twice"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Values> ParseConfigYaml(absl::string_view text, const std::vector<Flag>& flags) {
  if (text.size() > kMaxConfigFileBytes) {
    return Refuse(absl::StrCat("must have at most ", kMaxConfigFileBytes, " bytes"),
                  absl::StrCat(text.size()));
  }
  Values values;
  // The library throws on bad text, and bounds the depth. Aliases stay shared: nothing expands.
  try {
    const YAML::Node root = YAML::Load(std::string(text));
    if (root.IsNull()) return values;
    if (!root.IsMap()) return Refuse("must be a map of flags", KindOf(root));
    for (const auto& entry : root) {
      absl::Status status = ReadEntry(entry.first, entry.second, flags, &values);
      if (!status.ok()) return status;
    }
  } catch (const YAML::Exception& error) {
    return Refuse("must be YAML", Shown(error.what()));
  }
  return values;
}

absl::StatusOr<Values> ReadConfigFile(const std::string& path, const std::vector<Flag>& flags) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return Refuse("must name a readable file",
                  absl::StrCat(Shown(path), " (", std::strerror(errno), ")"));
  }
  std::string text(kMaxConfigFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return Refuse("must name a readable file", Shown(path));
  text.resize(static_cast<size_t>(file.gcount()));
  return ParseConfigYaml(text, flags);
}

}  // namespace pregate
