#include "server/config/flag.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace pregate {
namespace {

constexpr size_t kMaxShownBytes = 80;
constexpr size_t kMaxNearNames = 3;
constexpr size_t kMaxNameBytes = 64;  // longer words are no misspelling of a flag

absl::Status Refuse(absl::string_view name, absl::string_view rule, absl::string_view value) {
  return absl::InvalidArgumentError(absl::StrCat(name, ": must be ", rule, "; got ", Shown(value)));
}

bool ParseSwitch(absl::string_view text, bool* result) {
  const std::string word = absl::AsciiStrToLower(text);
  if (word == "true" || word == "yes" || word == "on" || word == "1") {
    *result = true;
  } else if (word == "false" || word == "no" || word == "off" || word == "0") {
    *result = false;
  } else {
    return false;
  }
  return true;
}

// Parses "512MiB". False when it is malformed or more than int64 holds.
bool ParseBytes(absl::string_view text, int64_t* result) {
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(text[digits])) ++digits;
  int64_t number = 0;
  if (!absl::SimpleAtoi(text.substr(0, digits), &number)) return false;
  absl::string_view unit = text.substr(digits);
  int shift = 0;
  if (!unit.empty()) {
    const size_t power = absl::string_view("KMGT").find(absl::ascii_toupper(unit[0]));
    if (power == absl::string_view::npos) return false;
    unit.remove_prefix(1);
    if (!unit.empty() && unit != "iB") return false;
    shift = 10 * (static_cast<int>(power) + 1);
  }
  if (number > (std::numeric_limits<int64_t>::max() >> shift)) return false;
  *result = number << shift;
  return true;
}

// Number of edits between two short words (Levenshtein).
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string Shown(absl::string_view value) {
  if (value.empty()) return "\"\"";
  // Bytes above 0x7F pass as they are: names may be in any script.
  const std::string shown = absl::Utf8SafeCEscape(value.substr(0, kMaxShownBytes));
  return value.size() > kMaxShownBytes ? absl::StrCat(shown, "...") : shown;
}

std::string Flag::environment_name() const {
  return absl::StrCat("PREGATE_", absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{"-", "_"}})));
}

absl::Status ParseInteger(absl::string_view name, absl::string_view text, int64_t low, int64_t high,
                          int64_t* result) {
  if (!absl::SimpleAtoi(text, result) || *result < low || *result > high) {
    return Refuse(name, absl::StrCat("a whole number in [", low, ", ", high, "]"), text);
  }
  return absl::OkStatus();
}

absl::Status ParseUnsigned(absl::string_view name, absl::string_view text, uint64_t* result) {
  if (!absl::SimpleAtoi(text, result)) {
    return Refuse(name, "a whole number in [0, 2^64)", text);
  }
  return absl::OkStatus();
}

Flag TextFlag(std::string name, std::string value, std::string help, std::string* target) {
  std::string shown = *target;
  auto set = [name, target](absl::string_view text) {
    if (text.empty()) return Refuse(name, "not empty", text);
    *target = std::string(text);
    return absl::OkStatus();
  };
  return Flag{std::move(name), std::move(value), std::move(help), std::move(shown), std::move(set)};
}

Flag SwitchFlag(std::string name, std::string help, bool* target) {
  std::string shown = *target ? "true" : "false";
  auto set = [name, target](absl::string_view text) {
    return ParseSwitch(text, target) ? absl::OkStatus() : Refuse(name, "true or false", text);
  };
  return Flag{std::move(name), "", std::move(help), std::move(shown), std::move(set)};
}

Flag RealFlag(std::string name, std::string help, double* target, double low, double high) {
  std::string shown = absl::StrCat(*target);
  auto set = [name, target, low, high](absl::string_view text) {
    double number = 0;
    // Written so that NaN fails it.
    if (!absl::SimpleAtod(text, &number) || !(number >= low && number <= high)) {
      return Refuse(name, absl::StrCat("a number in [", low, ", ", high, "]"), text);
    }
    *target = number;
    return absl::OkStatus();
  };
  return Flag{std::move(name), "X", std::move(help), std::move(shown), std::move(set)};
}

Flag BytesFlag(std::string name, std::string help, int64_t* target, std::string default_text) {
  auto set = [name, target](absl::string_view text) {
    return ParseBytes(text, target) ? absl::OkStatus()
                                    : Refuse(name, "a size such as 512MiB or 2G", text);
  };
  return Flag{std::move(name), "SIZE", std::move(help), std::move(default_text), std::move(set)};
}

Flag DurationFlag(std::string name, std::string help, absl::Duration* target) {
  std::string shown = absl::FormatDuration(*target);
  auto set = [name, target](absl::string_view text) {
    absl::Duration duration;
    double seconds = 0;
    if (absl::SimpleAtod(text, &seconds)) {
      duration = absl::Seconds(seconds);
    } else if (!absl::ParseDuration(text, &duration)) {
      return Refuse(name, "a time such as 30s or 1m30s", text);
    }
    if (duration < absl::ZeroDuration() || duration > absl::Hours(24)) {
      return Refuse(name, "a time in [0s, 24h]", text);
    }
    *target = duration;
    return absl::OkStatus();
  };
  return Flag{std::move(name), "TIME", std::move(help), std::move(shown), std::move(set)};
}

Flag IntegerListFlag(std::string name, std::string help, std::vector<int32_t>* target, int64_t low,
                     int64_t high) {
  constexpr size_t kMaxNumbers = 64;
  std::string shown = absl::StrJoin(*target, ",");
  auto set = [name, target, low, high](absl::string_view text) -> absl::Status {
    const std::vector<absl::string_view> words = absl::StrSplit(text, ',');
    if (words.size() > kMaxNumbers) {
      return Refuse(name, absl::StrCat("at most ", kMaxNumbers, " numbers"), text);
    }
    std::vector<int32_t> numbers;
    for (absl::string_view word : words) {
      int64_t number = 0;
      absl::Status status = ParseInteger(name, word, low, high, &number);
      if (!status.ok()) return status;
      numbers.push_back(static_cast<int32_t>(number));
    }
    *target = std::move(numbers);
    return absl::OkStatus();
  };
  return Flag{std::move(name), "N,N", std::move(help), std::move(shown), std::move(set)};
}

Flag WordListFlag(std::string name, std::string value, std::string words, std::string help,
                  std::vector<std::string>* target) {
  auto set = [name, words, target](absl::string_view text) -> absl::Status {
    const std::vector<std::string> known = absl::StrSplit(words, '|');
    std::vector<std::string> list = absl::StrSplit(text, ',');
    for (const std::string& word : list) {
      if (std::find(known.begin(), known.end(), word) == known.end()) {
        return Refuse(name, absl::StrCat("some of ", absl::StrJoin(known, ", ")), text);
      }
    }
    *target = std::move(list);
    return absl::OkStatus();
  };
  std::string shown = absl::StrJoin(*target, ",");
  return Flag{std::move(name), std::move(value), std::move(help), std::move(shown), std::move(set)};
}

Flag SeedFlag(std::string name, std::string help, uint64_t* target) {
  std::string shown = absl::StrCat(*target);
  auto set = [name, target](absl::string_view text) { return ParseUnsigned(name, text, target); };
  return Flag{std::move(name), "N", std::move(help), std::move(shown), std::move(set)};
}

Flag EnumFlag(std::string name, std::string words, std::string help, int default_index,
              std::function<void(int)> store) {
  const std::vector<std::string> list = absl::StrSplit(words, '|');
  auto set = [name, list, store = std::move(store)](absl::string_view text) {
    const auto found = std::find(list.begin(), list.end(), text);
    if (found == list.end()) return Refuse(name, absl::StrJoin(list, " or "), text);
    store(static_cast<int>(found - list.begin()));
    return absl::OkStatus();
  };
  return Flag{std::move(name), std::move(words), std::move(help), list[default_index],
              std::move(set)};
}

Flag WordFlag(std::string name, std::string words, std::string help, std::string* target) {
  const std::vector<std::string> list = absl::StrSplit(words, '|');
  const int index = static_cast<int>(std::find(list.begin(), list.end(), *target) - list.begin());
  return EnumFlag(std::move(name), std::move(words), std::move(help), index,
                  [list, target](int word) { *target = list[word]; });
}

std::vector<std::string> NearNames(absl::string_view name, const std::vector<Flag>& flags) {
  if (name.size() > kMaxNameBytes) return {};
  std::vector<std::pair<size_t, std::string>> near;
  for (const Flag& flag : flags) {
    const bool part = name.size() >= 3 &&
                      (absl::StrContains(flag.name, name) || absl::StrContains(name, flag.name));
    const size_t distance = EditDistance(name, flag.name);
    if (part || distance <= std::max<size_t>(2, flag.name.size() / 4)) {
      near.emplace_back(distance, flag.name);
    }
  }
  std::sort(near.begin(), near.end());
  std::vector<std::string> names;
  for (const auto& [distance, found] : near) {
    if (names.size() < kMaxNearNames) names.push_back(found);
  }
  return names;
}

absl::Status UnknownName(absl::string_view name, absl::string_view what,
                         const std::vector<Flag>& flags) {
  const std::vector<std::string> near = NearNames(name, flags);
  std::string message = absl::StrCat(Shown(name), ": unknown ", what);
  if (!near.empty()) absl::StrAppend(&message, "; did you mean ", absl::StrJoin(near, ", "), "?");
  return absl::InvalidArgumentError(message);
}

}  // namespace pregate
