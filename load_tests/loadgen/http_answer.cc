#include "load_tests/loadgen/http_answer.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"

namespace pregate {
namespace {

constexpr size_t kLongestHeader = 1 << 16, kLongestSizeLine = 64;
constexpr uint64_t kLongestChunk = uint64_t{1} << 30;

}  // namespace

bool HttpAnswer::Feed(std::string_view bytes) {
  raw_.append(bytes);
  while (!is_broken_ && Step()) {
  }
  return !is_broken_;
}

bool HttpAnswer::Step() {
  switch (state_) {
    case State::kHeader:
      return ReadHeader();
    case State::kPlainBody:
      body_ += raw_;
      raw_.clear();
      return false;
    case State::kChunkSize:
      return ReadChunkSize();
    case State::kChunk: {
      const size_t count = std::min<uint64_t>(chunk_left_, raw_.size());
      body_.append(raw_, 0, count);
      raw_.erase(0, count);
      chunk_left_ -= count;
      if (chunk_left_ > 0) return false;
      state_ = State::kChunkEnd;
      return true;
    }
    case State::kChunkEnd:
      if (raw_.size() < 2) return false;
      is_broken_ = raw_.compare(0, 2, "\r\n") != 0;
      raw_.erase(0, 2);
      state_ = State::kChunkSize;
      return true;
    case State::kEnd:
      return false;  // trailers say nothing of interest
  }
  return false;
}

bool HttpAnswer::ReadHeader() {
  const size_t end = raw_.find("\r\n\r\n");
  if (end == std::string::npos) {
    is_broken_ = raw_.size() > kLongestHeader;
    return false;
  }
  const std::string header = absl::AsciiStrToLower(raw_.substr(0, end + 2));
  if (!absl::StartsWith(header, "http/1.1 ") || !absl::SimpleAtoi(header.substr(9, 3), &status_)) {
    is_broken_ = true;
    return false;
  }
  raw_.erase(0, end + 4);
  state_ = absl::StrContains(header, "\r\ntransfer-encoding: chunked\r\n") ? State::kChunkSize
                                                                           : State::kPlainBody;
  return true;
}

bool HttpAnswer::ReadChunkSize() {
  const size_t end = raw_.find("\r\n");
  if (end == std::string::npos) {
    is_broken_ = raw_.size() > kLongestSizeLine;
    return false;
  }
  const std::string size = raw_.substr(0, std::min(end, raw_.find(';')));
  is_broken_ = !absl::SimpleHexAtoi(size, &chunk_left_) || chunk_left_ > kLongestChunk;
  raw_.erase(0, end + 2);
  state_ = chunk_left_ == 0 ? State::kEnd : State::kChunk;
  return true;
}

std::vector<std::string> HttpAnswer::TakeEvents() {
  constexpr std::string_view kData = "data: ";
  std::vector<std::string> events;
  size_t begin = 0;
  for (size_t end; (end = body_.find("\n\n", begin)) != std::string::npos; begin = end + 2) {
    if (body_.compare(begin, kData.size(), kData) == 0) {
      events.push_back(body_.substr(begin + kData.size(), end - begin - kData.size()));
    }
  }
  body_.erase(0, begin);
  return events;
}

}  // namespace pregate
