// Expert units in the host's memory, and all of them in a file.

#include <sys/mman.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/model/direct_file.h"
#include "engine/model/expert_lane.h"
#include "engine/model/expert_store.h"
#include "kernels/copy_lane.h"

namespace pregate {
namespace {

// Memory comes and goes in pages of 2 MiB, which units therefore do not share.
constexpr int64_t kPage = 2 << 20;

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Addresses without memory behind them, until they are written to. Pages that are given back go to
// the next addresses that want some: the system would clear new ones first, which takes a fifth of
// a core from the kernels and a quarter of its rate from the disk.
class Reservation {
 public:
  // `huge`: in pages of kPage where there are some; else no larger than what is written to.
  static absl::StatusOr<Reservation> Make(int64_t bytes, bool huge) {
    const size_t mapped = static_cast<size_t>(RoundUp(bytes, kPage) + kPage);
    void* data = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
      return absl::ResourceExhaustedError(
          absl::StrCat("experts: cannot reserve ", bytes, " bytes: ", std::strerror(errno)));
    }
    madvise(data, mapped, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return Reservation(data, mapped);
  }
  Reservation(Reservation&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        mapped_(other.mapped_),
        begin_(other.begin_),
        filled_(std::move(other.filled_)),
        spare_(std::move(other.spare_)) {}
  ~Reservation() {
    if (data_ != nullptr) munmap(data_, mapped_);
  }

  char* At(int64_t offset) const { return begin_ + offset; }

  // To the system.
  void Return(int64_t offset, int64_t bytes) {
    madvise(At(offset), static_cast<size_t>(bytes), MADV_DONTNEED);
  }

  // Puts pages that were given back behind these addresses, as far as there are some.
  void Fill(int64_t offset, int64_t bytes) {
    for (int64_t page = offset / kPage; page < RoundUp(offset + bytes, kPage) / kPage; ++page) {
      if (std::exchange(filled_[static_cast<size_t>(page)], uint8_t{1}) != 0) continue;
      if (std::erase(spare_, page) > 0 || spare_.empty()) continue;  // its own is still there
      const int64_t from = spare_.back() * kPage;
      spare_.pop_back();
      const void* moved =
          mremap(At(from), kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
                 At(page * kPage));
      if (moved == MAP_FAILED) Return(from, kPage);  // of an old system
    }
  }

  // Pages up to the one that holds the end.
  void GiveBack(int64_t offset, int64_t bytes) {
    for (int64_t page = offset / kPage; page < (offset + bytes) / kPage; ++page) {
      if (std::exchange(filled_[static_cast<size_t>(page)], uint8_t{0}) != 0) {
        spare_.push_back(page);
      }
    }
  }

 private:
  Reservation(void* data, size_t mapped)
      : data_(data),
        mapped_(mapped),
        begin_(reinterpret_cast<char*>(
            RoundUp(static_cast<int64_t>(reinterpret_cast<uintptr_t>(data)), kPage))),
        filled_(mapped / kPage) {}
  void* data_;
  size_t mapped_;
  char* begin_;                  // of the first page
  std::vector<uint8_t> filled_;  // [pages]
  std::vector<int64_t> spare_;   // pages that are not filled, with memory behind them all the same
};

// Offsets are of memory and of the file alike, sizes are multiples of DirectFile::kAlignment.
using Run = ExpertStore::Run;

struct Unit {
  std::vector<std::vector<Run>> pieces;  // [layers]
  int64_t bytes = 0;                     // of all pieces
  // Each piece is one run, of a page or more, and they stand one behind the other: so does memory
  // come and go.
  bool paged = false;

  int64_t begin() const { return pieces.front().front().offset; }
  int64_t end() const { return pieces.back().back().offset + pieces.back().back().bytes; }
};

int64_t EndOf(const std::vector<Unit>& units) {
  int64_t end = 0;
  for (const Unit& unit : units) {
    for (const std::vector<Run>& piece : unit.pieces) {
      for (const Run& run : piece) end = std::max(end, run.offset + run.bytes);
    }
  }
  return end;
}

class FileExpertStore : public ExpertStore, private PieceBringer {
 public:
  FileExpertStore(std::vector<Unit> units, bool scattered, Reservation memory,
                  std::unique_ptr<DirectFile> file)
      : units_(std::move(units)),
        scattered_(scattered),
        memory_(std::move(memory)),
        file_(std::move(file)),
        lane_(static_cast<int32_t>(units_.size()), static_cast<int32_t>(units_[0].pieces.size()),
              this, nullptr) {}

  void* Address(int32_t unit, int32_t layer) const override {
    return memory_.At(scattered_ ? 0 : PieceOf(unit, layer).front().offset);
  }

  absl::Status Save(int32_t unit, int32_t layer) override {
    absl::Status status;
    for (const Run& run : PieceOf(unit, layer)) {
      status.Update(file_->Write(run.offset, memory_.At(run.offset), run.bytes));
      memory_.Return(run.offset, run.bytes);
    }
    return status;
  }

  void Load(int32_t unit, bool now) override { lane_.Load(unit, now); }
  void Stream(const std::vector<int32_t>& units, int32_t window) override {
    lane_.Stream(units, window);
  }
  void KeepInHost(const std::vector<int32_t>&, const std::vector<int32_t>&) override {}

  void LayerRan(int32_t layer) override {
    for (const int32_t unit : lane_.streamed()) {
      for (const Run& run : PieceOf(unit, layer)) {
        GiveBack(unit, run.offset, run.offset + run.bytes);
      }
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
    return static_cast<const char*>(Address(unit, layer));
  }

  bool Loaded(int32_t unit) const override { return lane_.Loaded(unit); }
  std::vector<Ending> TakeEndings() override { return lane_.TakeEndings(); }
  int64_t unit_bytes(int32_t unit) const override {
    return units_[static_cast<size_t>(unit)].bytes;
  }
  std::string_view method() const override { return file_->method(); }

 private:
  const std::vector<Run>& PieceOf(int32_t unit, int32_t layer) const {
    return units_[static_cast<size_t>(unit)].pieces[static_cast<size_t>(layer)];
  }

  absl::StatusOr<CopyLane::Moment> Bring(int32_t unit, int32_t layer) override {
    for (const Run& run : PieceOf(unit, layer)) {
      if (units_[static_cast<size_t>(unit)].paged) {
        absl::MutexLock lock(&mutex_);
        memory_.Fill(run.offset, run.bytes);
      }
      const absl::Status status = file_->Read(run.offset, memory_.At(run.offset), run.bytes);
      if (!status.ok()) return status;
    }
    return nullptr;
  }

  // Takes back a unit's memory once the lane has left it alone.
  void Drop(int32_t index, bool forgets_ending) {
    lane_.Forget(index, forgets_ending);
    const Unit& unit = units_[static_cast<size_t>(index)];
    if (!scattered_) {
      return GiveBack(index, unit.begin(), unit.paged ? RoundUp(unit.end(), kPage) : unit.end());
    }
    for (const std::vector<Run>& piece : unit.pieces) {
      for (const Run& run : piece) memory_.Return(run.offset, run.bytes);
    }
  }

  // Of large pieces that stand one behind the other, a page goes with the last one in it.
  void GiveBack(int32_t unit, int64_t begin, int64_t end) {
    if (!units_[static_cast<size_t>(unit)].paged) return memory_.Return(begin, end - begin);
    absl::MutexLock lock(&mutex_);
    memory_.GiveBack(begin, end - begin);
  }

  const std::vector<Unit> units_;
  const bool scattered_;
  absl::Mutex mutex_;
  Reservation memory_;  // whose pages come and go under the mutex
  const std::unique_ptr<DirectFile> file_;
  ExpertLane lane_;  // last: it ends before what it uses
};

absl::StatusOr<std::unique_ptr<ExpertStore>> Make(std::vector<Unit> units, bool scattered,
                                                  std::unique_ptr<DirectFile> file) {
  absl::StatusOr<Reservation> memory = Reservation::Make(EndOf(units), !scattered);
  if (!memory.ok()) return memory.status();
  return std::make_unique<FileExpertStore>(std::move(units), scattered, *std::move(memory),
                                           std::move(file));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExpertStore>> ExpertStore::Create(
    const std::vector<std::vector<int64_t>>& piece_bytes, std::unique_ptr<DirectFile> file) {
  std::vector<Unit> units;
  int64_t end = 0;
  for (const std::vector<int64_t>& layers : piece_bytes) {
    assert(!layers.empty());
    Unit& unit = units.emplace_back();
    unit.paged = true;
    for (const int64_t bytes : layers) {
      const int64_t rounded = RoundUp(bytes, DirectFile::kAlignment);
      unit.pieces.push_back({{end, rounded}});
      unit.bytes += rounded;
      unit.paged &= rounded >= kPage;
      end += rounded;
    }
    end = RoundUp(end, kPage);
  }
  return Make(std::move(units), false, std::move(file));
}

absl::StatusOr<std::unique_ptr<ExpertStore>> ExpertStore::CreateScattered(
    const Runs& runs, std::unique_ptr<DirectFile> file) {
  std::vector<Unit> units;
  for (const std::vector<std::vector<Run>>& layers : runs) {
    assert(!layers.empty());
    Unit& unit = units.emplace_back();
    for (const std::vector<Run>& piece : layers) {
      std::vector<Run>& rounded = unit.pieces.emplace_back();
      for (const Run& run : piece) {
        assert(run.offset % DirectFile::kAlignment == 0);
        rounded.push_back({run.offset, RoundUp(run.bytes, DirectFile::kAlignment)});
        unit.bytes += rounded.back().bytes;
      }
    }
  }
  return Make(std::move(units), true, std::move(file));
}

}  // namespace pregate
