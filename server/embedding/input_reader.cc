#include "server/embedding/input_reader.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/embedding/encoding_job.h"
#include "server/generation/field_error.h"

namespace pregate {
namespace {

absl::Status CheckTotals(absl::string_view field, int64_t count, int64_t bytes, int64_t ids) {
  if (count < 1 || count > kMaxInputs) {
    return FieldError(field, absl::StrCat("have 1 to ", kMaxInputs, " entries"), count);
  }
  if (bytes > kMaxInputBytes) {
    return FieldError(field, absl::StrCat("be at most ", kMaxInputBytes, " bytes in all"), bytes);
  }
  if (ids > kMaxInputIds) {
    return FieldError(field, absl::StrCat("be at most ", kMaxInputIds, " ids in all"), ids);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckInputs(absl::string_view field, absl::Span<const TextOrIds> inputs) {
  int64_t bytes = 0, ids = 0;
  for (const TextOrIds& input : inputs) {
    if (const auto* text = std::get_if<std::string>(&input)) {
      bytes += std::ssize(*text);
    } else {
      ids += std::ssize(std::get<std::vector<int32_t>>(input));
    }
  }
  return CheckTotals(field, std::ssize(inputs), bytes, ids);
}

absl::Status CheckTexts(absl::string_view field, absl::Span<const std::string> texts) {
  int64_t bytes = 0;
  for (const std::string& text : texts) bytes += std::ssize(text);
  return CheckTotals(field, std::ssize(texts), bytes, 0);
}

InputReader::InputReader(const Tokenizer* tokenizer, int32_t max_tokens)
    : tokenizer_(tokenizer),
      max_tokens_(max_tokens),
      special_(tokenizer->Encode("", {.add_special = true})) {
  const TokenizerSpec& spec = tokenizer->spec();
  front_ = spec.add_bos && spec.bos_id.has_value() && !special_.empty() ? 1 : 0;
}

absl::StatusOr<std::vector<int32_t>> InputReader::Read(absl::string_view field,
                                                       const std::string& prefix,
                                                       const std::string& text,
                                                       bool truncate) const {
  absl::StatusOr<std::vector<int32_t>> ids = ReadPlain(field, text);
  if (!ids.ok()) return ids.status();
  if (room() < 0) return TooLong(field, special_.size());  // the special ones alone are too many
  if (!prefix.empty()) ids = tokenizer_->Encode(prefix + text, {.add_special = false});
  if (std::ssize(*ids) > room()) {
    if (!truncate) return TooLong(field, ids->size() + special_.size());
    ids->resize(static_cast<size_t>(room()));
  }
  std::vector<int32_t> wrapped = Wrap(*ids);
  if (wrapped.empty()) return FieldError(field, "have at least one token", text);
  return wrapped;
}

absl::StatusOr<std::vector<int32_t>> InputReader::Read(absl::string_view field,
                                                       std::vector<int32_t> ids,
                                                       bool truncate) const {
  if (ids.empty()) return FieldError(field, "have at least one token", 0);
  if (std::ssize(ids) <= max_tokens_) return ids;
  if (!truncate) return TooLong(field, ids.size());
  const int32_t last = ids.back();
  ids.resize(static_cast<size_t>(max_tokens_));
  if (special_.size() > front_ && last == special_.back()) ids.back() = last;
  return ids;
}

absl::StatusOr<std::vector<int32_t>> InputReader::ReadPlain(absl::string_view field,
                                                            const std::string& text) const {
  if (text.empty()) return FieldError(field, "not be empty", text);
  if (absl::Status status = CheckText(field, text, kMaxInputBytes); !status.ok()) return status;
  return tokenizer_->Encode(text, {.add_special = false});
}

std::vector<int32_t> InputReader::Wrap(absl::Span<const int32_t> ids) const {
  assert(std::ssize(ids) <= room());
  std::vector<int32_t> wrapped(special_.begin(), special_.begin() + front_);
  wrapped.insert(wrapped.end(), ids.begin(), ids.end());
  wrapped.insert(wrapped.end(), special_.begin() + front_, special_.end());
  return wrapped;
}

absl::Status InputReader::TooLong(absl::string_view field, size_t tokens) const {
  return FieldError(field, absl::StrCat("be at most ", max_tokens_, " tokens, or truncate be true"),
                    static_cast<int64_t>(tokens));
}

std::vector<std::pair<int32_t, int32_t>> Stretches(int32_t size, int32_t length) {
  assert(length > 0);
  std::vector<std::pair<int32_t, int32_t>> stretches;
  const int32_t step = length - length / 4;
  for (int32_t begin = 0;; begin += step) {
    const int32_t end = std::min(begin + length, size);
    stretches.emplace_back(begin, end);
    if (end == size) return stretches;
  }
}

}  // namespace pregate
