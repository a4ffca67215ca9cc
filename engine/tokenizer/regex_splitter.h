// Cuts text into words by a regular expression (PCRE2), as byte-level tokenizers were trained.
#ifndef PREGATE_ENGINE_TOKENIZER_REGEX_SPLITTER_H_
#define PREGATE_ENGINE_TOKENIZER_REGEX_SPLITTER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

struct pcre2_real_code_8;
struct pcre2_real_match_context_8;
struct pcre2_real_match_data_8;

namespace pregate {

// Immutable, safe to share between threads.
class RegexSplitter {
 public:
  // One thread's memory for matching.
  class Scratch {
   public:
    Scratch();
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

   private:
    friend class RegexSplitter;
    pcre2_real_match_data_8* match_data_;
    pcre2_real_match_context_8* context_;
  };

  // `pattern` in the dialect of tokenizer.json (Oniguruma with Ruby syntax). FAILED_PRECONDITION
  // when it does not compile, uses what PCRE2 reads differently, or backtracks without bound.
  static absl::StatusOr<RegexSplitter> Compile(std::string_view pattern);

  // Appends to `words` the matches and what lies between them, in order, without empty ones.
  // `text` must be valid UTF-8. From where matching exceeds its step limit (a bound that grows with
  // the text and that no published pattern meets) the rest is one word.
  void Split(std::string_view text, Scratch* scratch, std::vector<std::string_view>* words) const;

 private:
  struct CodeDeleter {
    void operator()(pcre2_real_code_8* code) const;
  };
  explicit RegexSplitter(pcre2_real_code_8* code) : code_(code) {}

  // PCRE2's own result for the first match at or after `start`.
  int Match(std::string_view text, size_t start, Scratch* scratch) const;
  bool BacktracksWithoutBound() const;

  std::unique_ptr<pcre2_real_code_8, CodeDeleter> code_;
};

// `pattern` of Oniguruma's dialect in PCRE2's, or FAILED_PRECONDITION naming what has no equal.
absl::StatusOr<std::string> ToPcre2Pattern(std::string_view pattern);

}  // namespace pregate

#endif  // PREGATE_ENGINE_TOKENIZER_REGEX_SPLITTER_H_
