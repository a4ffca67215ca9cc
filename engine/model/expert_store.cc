#include "engine/model/expert_store.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <thread>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/direct_file.h"

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
  // While asked for:
  bool asked = false;
  bool now = false;
  bool streamed = false;
  uint64_t turn = 0;  // order in which it was asked for
  absl::Status status;
  int32_t next = 0;  // layers before this one are there
  absl::Duration reading;
};

class FileExpertStore : public ExpertStore {
 public:
  FileExpertStore(std::vector<Unit> units, Reservation memory, std::unique_ptr<DirectFile> file)
      : memory_(std::move(memory)), file_(std::move(file)), units_(std::move(units)) {
    lane_ = std::thread([this] { RunLane(); });
  }
  ~FileExpertStore() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    lane_.join();
  }

  void* Address(int32_t unit, int32_t layer) const override {
    return memory_.At(PieceOf(unit, layer).offset);
  }

  absl::Status Save(int32_t unit, int32_t layer) override {
    const Piece& piece = PieceOf(unit, layer);
    absl::Status status = file_->Write(piece.offset, memory_.At(piece.offset), piece.bytes);
    memory_.GiveBack(piece.offset, piece.bytes);
    return status;
  }

  void Load(int32_t index, bool now) override {
    absl::MutexLock lock(&mutex_);
    Unit& unit = units_[static_cast<size_t>(index)];
    if (!unit.asked) Ask(&unit);
    unit.now |= now;
  }

  void Stream(const std::vector<int32_t>& units, int32_t window) override {
    absl::MutexLock lock(&mutex_);
    streamed_ = units;
    window_ = window;
    for (const int32_t index : units) {
      Unit& unit = units_[static_cast<size_t>(index)];
      assert(!unit.asked);
      Ask(&unit);
      unit.now = unit.streamed = true;
    }
  }

  void LayerRan(int32_t layer) override {
    for (const int32_t index : streamed_) {
      const Piece& piece = PieceOf(index, layer);
      memory_.GiveBack(piece.offset, piece.bytes);
    }
    absl::MutexLock lock(&mutex_);
    layers_ran_ = layer + 1;
  }

  absl::Duration FinishStep() override {
    absl::MutexLock lock(&mutex_);
    for (const int32_t index : streamed_) Drop(index);
    streamed_.clear();
    layers_ran_ = 0;
    return std::exchange(stall_, absl::ZeroDuration());
  }

  void Evict(int32_t index) override {
    absl::MutexLock lock(&mutex_);
    Drop(index);
    std::erase_if(endings_, [index](const Ending& ending) { return ending.unit == index; });
  }

  absl::Status Await(int32_t index, int32_t layer) override {
    absl::MutexLock lock(&mutex_);
    Unit& unit = units_[static_cast<size_t>(index)];
    assert(unit.asked);
    if (unit.next > layer) return absl::OkStatus();
    const absl::Time start = absl::Now();
    const auto settled = [&unit, layer] { return unit.next > layer || !unit.status.ok(); };
    mutex_.Await(absl::Condition(&settled));
    stall_ += absl::Now() - start;
    return unit.next > layer ? absl::OkStatus() : unit.status;
  }

  bool Loaded(int32_t index) const override {
    absl::MutexLock lock(&mutex_);
    return IsLoaded(units_[static_cast<size_t>(index)]);
  }

  std::vector<Ending> TakeEndings() override {
    absl::MutexLock lock(&mutex_);
    return std::exchange(endings_, {});
  }

  int64_t unit_bytes(int32_t unit) const override {
    return units_[static_cast<size_t>(unit)].bytes;
  }
  std::string_view method() const override { return file_->method(); }

 private:
  static bool IsLoaded(const Unit& unit) {
    return unit.next == static_cast<int32_t>(unit.pieces.size());
  }
  static int64_t EndOf(const Unit& unit) {
    return unit.pieces.back().offset + unit.pieces.back().bytes;
  }
  const Piece& PieceOf(int32_t unit, int32_t layer) const {
    return units_[static_cast<size_t>(unit)].pieces[static_cast<size_t>(layer)];
  }

  void Ask(Unit* unit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    unit->asked = true;
    unit->now = unit->streamed = false;
    unit->turn = turns_++;
    unit->reading = absl::ZeroDuration();
  }

  // Takes back a unit's memory once the lane has left it alone.
  void Drop(int32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Unit& unit = units_[static_cast<size_t>(index)];
    unit.asked = false;
    const auto left_alone = [this, index] { return reading_ != index; };
    mutex_.Await(absl::Condition(&left_alone));
    unit.next = 0;
    unit.now = false;
    unit.status = absl::OkStatus();
    memory_.GiveBack(unit.begin, EndOf(unit) - unit.begin);
  }

  // The unit whose next piece is to be read, or -1.
  int32_t Next() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto rank = [](const Unit& unit) {
      // What is needed now goes by layer, what comes later unit by unit.
      return std::make_tuple(!unit.now, unit.now ? unit.next : 0, unit.turn);
    };
    int32_t best = -1;
    for (int32_t i = 0; i < static_cast<int32_t>(units_.size()); ++i) {
      const Unit& unit = units_[static_cast<size_t>(i)];
      if (!unit.asked || IsLoaded(unit) || !unit.status.ok()) continue;
      if (unit.streamed && unit.next >= layers_ran_ + window_) continue;
      if (best < 0 || rank(unit) < rank(units_[static_cast<size_t>(best)])) best = i;
    }
    return best;
  }
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || Next() >= 0; }

  void RunLane() {
    absl::MutexLock lock(&mutex_);
    while (true) {
      mutex_.Await(absl::Condition(this, &FileExpertStore::HasWork));
      if (stopping_) return;
      reading_ = Next();
      Unit& unit = units_[static_cast<size_t>(reading_)];
      const Piece piece = unit.pieces[static_cast<size_t>(unit.next)];
      mutex_.Unlock();
      const absl::Time start = absl::Now();
      absl::Status status = file_->Read(piece.offset, memory_.At(piece.offset), piece.bytes);
      const absl::Duration took = absl::Now() - start;
      mutex_.Lock();
      unit.reading += took;
      if (status.ok()) {
        ++unit.next;
      } else {
        unit.status = std::move(status);
      }
      if (unit.asked && (IsLoaded(unit) || !unit.status.ok())) {
        endings_.push_back({reading_, unit.status.ok(), unit.reading});
      }
      reading_ = -1;
    }
  }

  Reservation memory_;
  const std::unique_ptr<DirectFile> file_;
  mutable absl::Mutex mutex_;
  // `pieces`, `begin` and `bytes` never change; the rest is under the mutex.
  std::vector<Unit> units_;
  uint64_t turns_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t reading_ ABSL_GUARDED_BY(mutex_) = -1;  // unit that the lane is reading
  std::vector<Ending> endings_ ABSL_GUARDED_BY(mutex_);
  absl::Duration stall_ ABSL_GUARDED_BY(mutex_);
  std::vector<int32_t> streamed_;                   // units of the step; only its thread changes it
  int32_t window_ ABSL_GUARDED_BY(mutex_) = 0;      // layers of each in memory at once
  int32_t layers_ran_ ABSL_GUARDED_BY(mutex_) = 0;  // of the step
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread lane_;
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
