// ClientRequest: what a client asks for, whichever front door it came through.
#ifndef PREGATE_SERVER_GENERATION_CLIENT_REQUEST_H_
#define PREGATE_SERVER_GENERATION_CLIENT_REQUEST_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/model/sampling_params.h"
#include "server/generation/field_error.h"

namespace pregate {

struct ChatMessage {
  std::string role;
  std::string content;  // UTF-8, if the client keeps the rules
};

// As it came: nothing is checked yet but how many there are of what repeats (see below).
struct ClientRequest {
  std::string model;       // empty: the one served
  std::string request_id;  // a label
  std::variant<std::monostate, std::string, std::vector<int32_t>, std::vector<ChatMessage>> prompt;
  bool parse_special = false;

  int64_t max_tokens = 256;
  int64_t min_tokens = 0;
  // The numbers that all answers share. `seed`, `min_tokens`, `stop_ids` and `logprobs` are filled
  // from the fields below.
  SamplingParams sampling;
  std::optional<uint64_t> seed;
  int32_t n = 1;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_ids;
  bool ignore_eos = false;
  std::optional<int32_t> logprobs;
  std::optional<int32_t> prompt_logprobs;

  int32_t priority = 0;
  std::string tenant;
  absl::Time deadline = absl::InfiniteFuture();
  bool stream = true;
};

inline constexpr int32_t kMaxAnswers = 16;
inline constexpr int64_t kMaxStopStrings = 16;
inline constexpr int64_t kMaxStopBytes = 256;
inline constexpr int64_t kMaxStopIds = 128;
inline constexpr int64_t kMaxLogprobIds = 128;
inline constexpr int64_t kMaxLogitBias = 1024;
inline constexpr int64_t kMaxChatMessages = 1024;
inline constexpr int64_t kMaxLabelBytes = 128;  // request_id, tenant

// What repeats in a request is counted before any of it is copied.
template <typename Range>
absl::Status CheckCount(absl::string_view field, const Range& range, int64_t most) {
  const int64_t count = static_cast<int64_t>(range.size());
  if (count <= most) return absl::OkStatus();
  return FieldError(field, absl::StrCat("have at most ", most, " entries"), count);
}

// Ids as clients write them, unsigned. Whether the model has them is ValidateRequest's business.
inline absl::Status ReadTokenId(absl::string_view field, uint32_t id, int32_t* to) {
  constexpr uint32_t kLargest = std::numeric_limits<int32_t>::max();
  if (id > kLargest) return FieldError(field, absl::StrCat("be <= ", kLargest), id);
  *to = static_cast<int32_t>(id);
  return absl::OkStatus();
}

template <typename Range>
absl::StatusOr<std::vector<int32_t>> ReadTokenIds(absl::string_view field, const Range& range,
                                                  int64_t most) {
  if (absl::Status status = CheckCount(field, range, most); !status.ok()) return status;
  std::vector<int32_t> ids(range.size());
  size_t i = 0;
  for (const uint32_t id : range) {
    int32_t* to = &ids[i];
    if (absl::Status status = ReadTokenId(absl::StrCat(field, "[", i++, "]"), id, to);
        !status.ok()) {
      return status;
    }
  }
  return ids;
}

// `range` is of strings.
template <typename Range>
absl::StatusOr<std::vector<std::string>> ReadStopStrings(const Range& range) {
  if (absl::Status status = CheckCount("stop", range, kMaxStopStrings); !status.ok()) {
    return status;
  }
  for (const auto& stop : range) {
    if (stop.empty()) return FieldError("stop", "not be empty", stop);
    if (absl::Status status = CheckText("stop", stop, kMaxStopBytes); !status.ok()) return status;
  }
  return std::vector<std::string>(range.begin(), range.end());
}

}  // namespace pregate

#endif  // PREGATE_SERVER_GENERATION_CLIENT_REQUEST_H_
