// Flag: one setting with its name, its help and the rule that its value must obey. The command
// line, the environment, the YAML file, `--help` and the README's table all read the same list.
#ifndef PREGATE_SERVER_CONFIG_FLAG_H_
#define PREGATE_SERVER_CONFIG_FLAG_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pregate {

struct Flag {
  std::string name;           // as on the command line, without the dashes: "max-num-seqs"
  std::string value;          // what stands for its value in the help; empty: a switch
  std::string help;           // one line
  std::string default_value;  // as shown; may be empty
  // Checks a value and stores it. INVALID_ARGUMENT "<name>: <rule>; got <value>".
  std::function<absl::Status(absl::string_view)> set;
  std::string short_name = "";  // one letter, or empty
  std::string topic = "";       // what the help shows it under
  bool rarely_needed = false;   // only `--help-all` shows it

  bool is_switch() const { return value.empty(); }
  // "PREGATE_MAX_NUM_SEQS".
  std::string environment_name() const;
};

// Makers of flags that store into `target`, whose present value is the default. `target` must
// outlive the flag.
Flag TextFlag(std::string name, std::string value, std::string help, std::string* target);
Flag SwitchFlag(std::string name, std::string help, bool* target);
// A real number in [low, high].
Flag RealFlag(std::string name, std::string help, double* target, double low, double high);
// Bytes: a whole number, alone or with K, M, G, T, KiB, MiB, GiB, TiB (all powers of 1024).
// `default_text` stands for the value 0.
Flag BytesFlag(std::string name, std::string help, int64_t* target, std::string default_text);
// "30s", "1m30s", "500ms", or a number of seconds; at most one day.
Flag DurationFlag(std::string name, std::string help, absl::Duration* target);

// Parses a whole decimal number in [low, high] for IntegerFlag.
absl::Status ParseInteger(absl::string_view name, absl::string_view text, int64_t low, int64_t high,
                          int64_t* result);
absl::Status ParseUnsigned(absl::string_view name, absl::string_view text, uint64_t* result);

// A whole number in [low, high]. `default_text`, if any, is shown in place of the default.
template <typename T>
Flag IntegerFlag(std::string name, std::string help, T* target, int64_t low, int64_t high,
                 std::string default_text = "") {
  std::string shown = default_text.empty() ? absl::StrCat(*target) : std::move(default_text);
  auto set = [name, target, low, high](absl::string_view text) -> absl::Status {
    int64_t number = 0;
    absl::Status status = ParseInteger(name, text, low, high, &number);
    if (status.ok()) *target = static_cast<T>(number);
    return status;
  };
  return Flag{std::move(name), "N", std::move(help), std::move(shown), std::move(set)};
}
// Whole numbers in [low, high], separated by commas; at least one, at most 64.
Flag IntegerListFlag(std::string name, std::string help, std::vector<int32_t>* target, int64_t low,
                     int64_t high);
// Words of "a|b|c", separated by commas; at least one. The help shows `value`.
Flag WordListFlag(std::string name, std::string value, std::string words, std::string help,
                  std::vector<std::string>* target);
Flag SeedFlag(std::string name, std::string help, uint64_t* target);

// One word of `words`, "a|b|c", stored as it is.
Flag WordFlag(std::string name, std::string words, std::string help, std::string* target);
// The same, stored as the enumerator at the word's place.
Flag EnumFlag(std::string name, std::string words, std::string help, int default_index,
              std::function<void(int)> store);

// The names among `flags` that someone who wrote `name` may have meant, likeliest first.
std::vector<std::string> NearNames(absl::string_view name, const std::vector<Flag>& flags);

// INVALID_ARGUMENT "<name>: unknown <what>; did you mean a, b?".
absl::Status UnknownName(absl::string_view name, absl::string_view what,
                         const std::vector<Flag>& flags);

// A user's value as shown in a message: control characters escaped, cut when long.
std::string Shown(absl::string_view value);

}  // namespace pregate

#endif  // PREGATE_SERVER_CONFIG_FLAG_H_
