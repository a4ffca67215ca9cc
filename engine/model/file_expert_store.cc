// Expert units in the host's memory, and all of them in a file.

#include <sys/mman.h>

#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/direct_file.h"
#include "engine/model/expert_lane.h"
#include "engine/model/expert_store.h"
#include "kernels/copy_lane.h"

namespace pregate {
namespace {

// Memory comes and goes in pages of 2 MiB where the system has them, so units start at one.
constexpr int64_t kUnitAlignment = 2 << 20;

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Addresses without memory behind them, until they are written to.
class Reservation {
 public:
  static absl::StatusOr<Reservation> Make(int64_t bytes) {
    void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
      return absl::ResourceExhaustedError(
          absl::StrCat("experts: cannot reserve ", bytes, " bytes: ", std::strerror(errno)));
    }
    madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
    return Reservation(data, bytes);
  }
  Reservation(Reservation&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  ~Reservation() {
    if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
  }

  char* At(int64_t offset) const { return static_cast<char*>(data_) + offset; }
  void GiveBack(int64_t offset, int64_t bytes) {
    madvise(At(offset), static_cast<size_t>(bytes), MADV_DONTNEED);
  }

 private:
  Reservation(void* data, int64_t bytes) : data_(data), bytes_(bytes) {}
  void* data_;
  int64_t bytes_;
};

struct Piece {
  int64_t offset;  // in memory and in the file alike
  int64_t bytes;   // a multiple of DirectFile::kAlignment; may be 0
};

struct Unit {
  std::vector<Piece> pieces;  // [layers]
  int64_t begin = 0;          // of the unit's addresses
  int64_t bytes = 0;          // of all pieces
};

class FileExpertStore : public ExpertStore, private PieceBringer {
 public:
  FileExpertStore(std::vector<Unit> units, Reservation memory, std::unique_ptr<DirectFile> file)
      : units_(std::move(units)),
        memory_(std::move(memory)),
        file_(std::move(file)),
        lane_(static_cast<int32_t>(units_.size()), static_cast<int32_t>(units_[0].pieces.size()),
              this, nullptr) {}

  void* Address(int32_t unit, int32_t layer) const override {
    return memory_.At(PieceOf(unit, layer).offset);
  }

  absl::Status Save(int32_t unit, int32_t layer) override {
    const Piece& piece = PieceOf(unit, layer);
    absl::Status status = file_->Write(piece.offset, memory_.At(piece.offset), piece.bytes);
    memory_.GiveBack(piece.offset, piece.bytes);
    return status;
  }

  void Load(int32_t unit, bool now) override { lane_.Load(unit, now); }
  void Stream(const std::vector<int32_t>& units, int32_t window) override {
    lane_.Stream(units, window);
  }
  void KeepInHost(const std::vector<int32_t>&, const std::vector<int32_t>&) override {}

  void LayerRan(int32_t layer) override {
    for (const int32_t unit : lane_.streamed()) {
      const Piece& piece = PieceOf(unit, layer);
      memory_.GiveBack(piece.offset, piece.bytes);
    }
    lane_.LayerRan(layer);
  }

  Stall FinishStep() override {
    for (const int32_t unit : lane_.streamed()) Drop(unit, false);
    lane_.FinishStep();
    const absl::Duration waited = lane_.TakeWaited();
    return {waited, waited};  // whoever waits, the lane reads
  }

  void Evict(int32_t unit) override { Drop(unit, true); }

  absl::StatusOr<const char*> Await(int32_t unit, int32_t layer) override {
    const absl::StatusOr<CopyLane::Moment> there = lane_.Await(unit, layer);
    if (!there.ok()) return there.status();
    return memory_.At(PieceOf(unit, layer).offset);
  }

  bool Loaded(int32_t unit) const override { return lane_.Loaded(unit); }
  std::vector<Ending> TakeEndings() override { return lane_.TakeEndings(); }
  int64_t unit_bytes(int32_t unit) const override {
    return units_[static_cast<size_t>(unit)].bytes;
  }
  std::string_view method() const override { return file_->method(); }

 private:
  const Piece& PieceOf(int32_t unit, int32_t layer) const {
    return units_[static_cast<size_t>(unit)].pieces[static_cast<size_t>(layer)];
  }

  absl::StatusOr<CopyLane::Moment> Bring(int32_t unit, int32_t layer) override {
    const Piece& piece = PieceOf(unit, layer);
    const absl::Status status = file_->Read(piece.offset, memory_.At(piece.offset), piece.bytes);
    if (!status.ok()) return status;
    return nullptr;
  }

  // Takes back a unit's memory once the lane has left it alone.
  void Drop(int32_t index, bool forgets_ending) {
    lane_.Forget(index, forgets_ending);
    const Unit& unit = units_[static_cast<size_t>(index)];
    memory_.GiveBack(unit.begin, unit.pieces.back().offset + unit.pieces.back().bytes - unit.begin);
  }

  const std::vector<Unit> units_;
  Reservation memory_;
  const std::unique_ptr<DirectFile> file_;
  ExpertLane lane_;  // last: it ends before what it uses
};

}  // namespace

absl::StatusOr<std::unique_ptr<ExpertStore>> ExpertStore::Create(
    const std::vector<std::vector<int64_t>>& piece_bytes, std::unique_ptr<DirectFile> file) {
  std::vector<Unit> units;
  int64_t end = 0;
  for (const std::vector<int64_t>& layers : piece_bytes) {
    assert(!layers.empty());
    Unit& unit = units.emplace_back();
    unit.begin = end;
    for (const int64_t bytes : layers) {
      const int64_t rounded = RoundUp(bytes, DirectFile::kAlignment);
      unit.pieces.push_back({end, rounded});
      unit.bytes += rounded;
      end += rounded;
    }
    end = RoundUp(end, kUnitAlignment);
  }
  absl::StatusOr<Reservation> memory = Reservation::Make(end);
  if (!memory.ok()) return memory.status();
  return std::make_unique<FileExpertStore>(std::move(units), *std::move(memory), std::move(file));
}

}  // namespace pregate
