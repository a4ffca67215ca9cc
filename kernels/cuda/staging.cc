#include "kernels/cuda/staging.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/check.h"

namespace pregate {
namespace {

// A piece takes a link of 50 GB/s 80 us, beside which the call itself counts little.
constexpr size_t kPieceBytes = size_t{4} << 20;
constexpr int kUploadPieces = 16;
constexpr int kDownloadPieces = 2;
// Small copies share a piece; each starts where a line of the cache does.
constexpr size_t kAlignment = 64;

}  // namespace

absl::StatusOr<PinnedPieces> PinnedPieces::Create(size_t piece_bytes, int pieces) {
  PinnedPieces made;
  const size_t bytes = piece_bytes * static_cast<size_t>(pieces);
  void* memory = nullptr;
  if (const cudaError_t error = cudaHostAlloc(&memory, bytes, cudaHostAllocDefault);
      error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // it is dealt with
    return absl::ResourceExhaustedError(absl::StrCat(
        "device: cannot pin ", bytes, " bytes of memory: ", cudaGetErrorString(error)));
  }
  made.memory_ = static_cast<char*>(memory);
  made.piece_bytes_ = piece_bytes;
  for (int i = 0; i < pieces; ++i) {
    cudaEvent_t event = nullptr;
    CheckCuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
    made.events_.push_back(event);
  }
  return made;
}

PinnedPieces& PinnedPieces::operator=(PinnedPieces&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(piece_bytes_, other.piece_bytes_);
  std::swap(events_, other.events_);
  return *this;
}

PinnedPieces::~PinnedPieces() {
  for (const cudaEvent_t event : events_) CheckCuda(cudaEventDestroy(event), "event");
  if (memory_ != nullptr) CheckCuda(cudaFreeHost(memory_), "pinned memory");
}

void PinnedPieces::Mark(size_t piece, cudaStream_t stream) const {
  CheckCuda(cudaEventRecord(events_[piece], stream), "event");
}

void PinnedPieces::Await(size_t piece) const {
  CheckCuda(cudaEventSynchronize(events_[piece]), "waiting for a copy");
}

absl::StatusOr<UploadRing> UploadRing::Create() {
  absl::StatusOr<PinnedPieces> pieces = PinnedPieces::Create(kPieceBytes, kUploadPieces);
  if (!pieces.ok()) return pieces.status();
  UploadRing ring;
  ring.pieces_ = *std::move(pieces);
  return ring;
}

void UploadRing::Copy(void* dst, const void* host_src, size_t bytes, cudaStream_t stream) {
  auto* to = static_cast<char*>(dst);
  const auto* from = static_cast<const char*>(host_src);
  while (bytes > 0) {
    if (used_ >= kPieceBytes) {
      pieces_.Mark(piece_, stream);
      piece_ = (piece_ + 1) % pieces_.size();
      pieces_.Await(piece_);  // at once where it has never been marked
      used_ = 0;
    }
    const size_t part = std::min(bytes, kPieceBytes - used_);
    char* const staged = pieces_.At(piece_) + used_;
    std::memcpy(staged, from, part);
    CheckCuda(cudaMemcpyAsync(to, staged, part, cudaMemcpyHostToDevice, stream),
              "copy to the device");
    used_ += (part + kAlignment - 1) / kAlignment * kAlignment;
    to += part;
    from += part;
    bytes -= part;
  }
}

absl::StatusOr<Download> Download::Create() {
  absl::StatusOr<PinnedPieces> pieces = PinnedPieces::Create(kPieceBytes, kDownloadPieces);
  if (!pieces.ok()) return pieces.status();
  Download download;
  download.pieces_ = *std::move(pieces);
  return download;
}

void Download::Copy(void* host_dst, const void* src, size_t bytes, cudaStream_t stream) {
  auto* to = static_cast<char*>(host_dst);
  const auto* from = static_cast<const char*>(src);
  const auto part_at = [bytes](size_t at) { return std::min(kPieceBytes, bytes - at); };
  const auto issue = [&](size_t piece, size_t at) {
    CheckCuda(
        cudaMemcpyAsync(pieces_.At(piece), from + at, part_at(at), cudaMemcpyDeviceToHost, stream),
        "copy to the host");
    pieces_.Mark(piece, stream);
  };
  if (bytes > 0) issue(0, 0);
  size_t piece = 0;
  for (size_t at = 0; at < bytes; at += kPieceBytes) {
    if (at + kPieceBytes < bytes) issue(1 - piece, at + kPieceBytes);
    pieces_.Await(piece);
    std::memcpy(to + at, pieces_.At(piece), part_at(at));
    piece = 1 - piece;
  }
}

}  // namespace pregate
