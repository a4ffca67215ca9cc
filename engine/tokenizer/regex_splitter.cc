#include "engine/tokenizer/regex_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cassert>
#include <cstdint>

#include "absl/status/status.h"
#include "engine/tokenizer/strings.h"
#include "engine/tokenizer/utf8.h"

namespace pregate {
namespace {

constexpr size_t kMaxPatternBytes = 16384;
// Steps of one match: a share that covers any sane pattern, and one that grows with the text, since
// a greedy run gives back its characters one by one.
constexpr uint32_t kBaseSteps = 1'000'000;
constexpr uint32_t kStepsPerByte = 16;
// At load a pattern is tried on short runs; an exponential one needs more than this at once.
constexpr uint32_t kProbeSteps = 200'000;
constexpr size_t kProbeLength = 64;

struct CompileContextDeleter {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};

// Names of general categories have at most two letters ("L", "Lu", "L&").
bool IsGeneralCategory(std::string_view name) { return name.size() <= 2; }

// Translates the escape at pattern[at] (a backslash); returns the bytes it took.
size_t AppendEscape(std::string_view pattern, size_t at, std::string* out) {
  const std::string_view rest = pattern.substr(at);
  // PCRE2's \s has U+180E and lacks nothing else; Oniguruma's is the property White_Space.
  if (rest.starts_with("\\s") || rest.starts_with("\\S")) {
    out->append(rest[1] == 's' ? "\\p{White_Space}" : "\\P{White_Space}");
    return 2;
  }
  if (rest.starts_with("\\p{") || rest.starts_with("\\P{")) {
    const size_t end = rest.find('}');
    if (end != std::string_view::npos) {
      std::string_view name = rest.substr(3, end - 3);
      const bool negated = name.starts_with("^");
      if (negated) name.remove_prefix(1);
      // A bare script name means script extensions in PCRE2, the script itself in Oniguruma.
      out->append(Cat(rest.substr(0, 3), negated ? "^" : "",
                      IsGeneralCategory(name) ? "" : "sc:", name, "}"));
      return end + 1;
    }
  }
  const size_t bytes = std::min<size_t>(2, rest.size());
  out->append(rest, 0, bytes);
  return bytes;
}

// A control character, then all printable ones.
std::string AnyAscii() {
  std::string text(1, '\x01');
  for (char c = ' '; c <= '~'; ++c) text.push_back(c);
  return text;
}

}  // namespace

absl::StatusOr<std::string> ToPcre2Pattern(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (size_t at = 0; at < pattern.size();) {
    const char c = pattern[at];
    if (c == '\\') {
      at += AppendEscape(pattern, at, &out);
      continue;
    }
    if (in_class && c == '[' && !pattern.substr(at).starts_with("[:")) {
      return absl::FailedPreconditionError(
          Cat("pre_tokenizer: a class inside a class is not supported; got ", pattern));
    }
    if (in_class && pattern.substr(at).starts_with("&&")) {
      return absl::FailedPreconditionError(
          Cat("pre_tokenizer: class intersection is not supported; got ", pattern));
    }
    if (c == '[' && !in_class) {
      in_class = true;
    } else if (in_class && pattern.substr(at).starts_with("[:")) {
      const size_t end = pattern.find(":]", at);
      if (end != std::string_view::npos) {
        out.append(pattern, at, end + 2 - at);
        at = end + 2;
        continue;
      }
    } else if (c == ']') {
      in_class = false;
    }
    out.push_back(c);
    ++at;
  }
  return out;
}

RegexSplitter::Scratch::Scratch()
    : match_data_(pcre2_match_data_create(1, nullptr)),
      context_(pcre2_match_context_create(nullptr)) {
  assert(match_data_ != nullptr && context_ != nullptr);
}

RegexSplitter::Scratch::~Scratch() {
  pcre2_match_context_free(context_);
  pcre2_match_data_free(match_data_);
}

void RegexSplitter::CodeDeleter::operator()(pcre2_real_code_8* code) const {
  pcre2_code_free(code);
}

absl::StatusOr<RegexSplitter> RegexSplitter::Compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::FailedPreconditionError(Cat("pre_tokenizer: a pattern has at most ",
                                             kMaxPatternBytes, " bytes; got ", pattern.size()));
  }
  absl::StatusOr<std::string> translated = ToPcre2Pattern(pattern);
  if (!translated.ok()) return translated.status();
  const std::unique_ptr<pcre2_compile_context, CompileContextDeleter> context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Ruby's `^` and `$` stand at every line.
  const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated->data()),
                                   translated->size(), options, &error, &offset, context.get());
  if (code == nullptr) {
    PCRE2_UCHAR message[128];
    pcre2_get_error_message(error, message, sizeof(message));
    return absl::FailedPreconditionError(Cat("pre_tokenizer: a pattern must compile (",
                                             reinterpret_cast<const char*>(message), "); got ",
                                             pattern));
  }
  RegexSplitter splitter(code);
  // Without a JIT compiler on this system matching is slower and otherwise the same.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  if (splitter.BacktracksWithoutBound()) {
    return absl::FailedPreconditionError(
        Cat("pre_tokenizer: a pattern must not backtrack without bound; got ", pattern));
  }
  return splitter;
}

int RegexSplitter::Match(std::string_view text, size_t start, Scratch* scratch) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int result = pcre2_match(code_.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK,
                           scratch->match_data_, scratch->context_);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
    result =
        pcre2_match(code_.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                    scratch->match_data_, scratch->context_);
  }
  return result;
}

bool RegexSplitter::BacktracksWithoutBound() const {
  Scratch scratch;
  pcre2_set_match_limit(scratch.context_, kProbeSteps);
  for (const char* unit : {"a", "A", " ", "1", "!", "\n", "ab", " a", "a\n", " \n", "\xC3\xA9"}) {
    std::string probe;
    while (probe.size() < kProbeLength) probe += unit;
    // What follows makes a match that ran to the end of the run fail, and holds whatever character
    // the pattern may look for first.
    for (const std::string& end : {std::string(), AnyAscii()}) {
      const int result = Match(probe + end, 0, &scratch);
      if (result < 0 && result != PCRE2_ERROR_NOMATCH) return true;
    }
  }
  return false;
}

void RegexSplitter::Split(std::string_view text, Scratch* scratch,
                          std::vector<std::string_view>* words) const {
  const uint64_t steps = kBaseSteps + uint64_t{kStepsPerByte} * text.size();
  pcre2_set_match_limit(scratch->context_,
                        static_cast<uint32_t>(std::min<uint64_t>(steps, UINT32_MAX)));
  size_t word_start = 0;
  size_t search_from = 0;
  while (search_from < text.size()) {
    if (Match(text, search_from, scratch) < 0) break;
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(scratch->match_data_);
    // \K in a lookahead can put the start behind the end.
    const size_t begin = std::max<size_t>(range[0], word_start);
    const size_t end = std::max<size_t>(range[1], begin);
    if (begin > word_start) words->push_back(text.substr(word_start, begin - word_start));
    if (end > begin) words->push_back(text.substr(begin, end - begin));
    word_start = end;
    search_from = end;
    if (end == begin && end < text.size()) search_from += DecodeUtf8(text.substr(end)).second;
  }
  if (word_start < text.size()) words->push_back(text.substr(word_start));
}

}  // namespace pregate
