// Purpose: a device and the memory of a machine in front of it, as far as a store can tell: what was written may be on
// the device or not until a sync has completed, in pieces of a word each. Cut makes what a machine finds after the
// power was gone. Nothing of it is in a file system. Also calls that fail on purpose.
//
// What may be where: the device has a word as it was when it was last written back. A sync writes all back; the kernel
// may do so with anything at any time (WriteBack), so that a word of the device may be of any moment since the last
// sync. A sync that fails writes some, and the kernel calls all of it clean (as Linux does): later syncs pass it over.
// The length of the file is a word of its own kind: any it has had since the last sync.
//
// Thread safety: one thread. Ownership: a SimulatedDisk is shared by whoever opens it; each opening is a Storage.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "base/fail_point.h"
#include "format/layout.h"
#include "format/superblock.h"
#include "store/storage.h"

namespace store_test {

using Random = std::mt19937_64;

inline uint64_t Below(Random* random, uint64_t bound) { return (*random)() % bound; }
inline bool Chance(Random* random, uint64_t percent) { return (*random)() % 100 < percent; }
/** From 1 to `most`, small numbers as likely as large ones. */
inline uint64_t Logarithmic(Random* random, uint64_t most) {
  const uint64_t bits = Below(random, static_cast<uint64_t>(std::bit_width(most))) + 1;
  return std::min(most, 1 + Below(random, uint64_t{1} << bits));
}

/** Zeroed memory that is used again and again: fresh pages would cost more than all else of a cut. */
class Arena {
 public:
  explicit Arena(uint64_t size) : size_(size) {
    for (auto at = Idle().begin(); at != Idle().end(); ++at) {
      if (at->size != size) continue;
      base_ = at->base;
      std::memset(base_, 0, at->used);
      Idle().erase(at);
      return;
    }
    void* const address =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) ::abort();
    base_ = static_cast<std::byte*>(address);
  }
  Arena(const Arena&) = delete;
  ~Arena() {
    if (Idle().size() > 64) {
      ::munmap(Idle().front().base, Idle().front().size);
      Idle().erase(Idle().begin());
    }
    Idle().push_back({base_, size_, used});
  }
  std::byte* base() const { return base_; }
  uint64_t used = 0;  // nothing was ever written behind this

 private:
  struct Piece {
    std::byte* base;
    uint64_t size;
    uint64_t used;
  };
  static std::vector<Piece>& Idle() {
    static std::vector<Piece> idle;
    return idle;
  }
  std::byte* base_ = nullptr;
  const uint64_t size_;
};

class SimulatedDisk : public std::enable_shared_from_this<SimulatedDisk> {
 public:
  static constexpr uint64_t kPage = 4096;
  static constexpr uint64_t kWordsOfPage = kPage / 8;

  explicit SimulatedDisk(uint64_t max_bytes) : max_bytes_(max_bytes), memory_(max_bytes), device_(max_bytes) {}

  uint64_t max_bytes() const { return max_bytes_; }
  uint64_t bytes() const { return bytes_; }
  /** What the machine sees. */
  std::byte* memory() const { return memory_.base(); }

  /** The file as it is made: `head`, then zeros up to `bytes`, all of it on the device. */
  void Format(const std::vector<uint64_t>& head, uint64_t bytes) {
    SetLength(bytes);
    std::memcpy(memory(), head.data(), head.size() * 8);
    WriteAllBack();
  }

  // ── what happens at calls

  /** Called as a sync begins (false), and when it has completed (true). */
  std::function<void(bool completed)> at_sync;
  /** Which of the syncs to come fails, from 1; 0: none. */
  uint64_t fail_sync = 0;
  /** From which of the calls to come on no space is left, from 1; 0: there is space. */
  uint64_t fail_reserve = 0;
  uint64_t refused = 0;       // calls for space
  Random* failing = nullptr;  // decides what a sync that fails has written

  faultless::Status Sync() {
    FAULTLESS_FAIL_POINT();
    if (at_sync) at_sync(false);
    if (fail_sync != 0 && --fail_sync == 0) {
      FailToSync();
      return faultless::Status::Io("simulated", 0);
    }
    if (clean_ != nullptr) {
      WriteDirtyBack();
    } else {
      WriteAllBack();
    }
    if (at_sync) at_sync(true);
    FAULTLESS_FAIL_POINT();
    return {};
  }

  faultless::Status Reserve(uint64_t offset, uint64_t length) {
    FAULTLESS_FAIL_POINT();
    if (fail_reserve == 1) {
      refused++;
      return faultless::Code::kNoSpace;
    }
    if (fail_reserve > 1) fail_reserve--;
    if (offset + length > max_bytes_) ::abort();
    if (offset + length > bytes_) SetLength(offset + length);
    return {};
  }

  /** The kernel forgets what is clean. */
  void DropCache() {
    if (clean_ == nullptr) return;  // what is clean is what the device has
    ForEachPage([&](uint64_t at) {
      if (std::memcmp(memory() + at, clean_->base() + at, kPage) != 0) return;
      std::memcpy(memory() + at, device_.base() + at, kPage);
      std::memcpy(clean_->base() + at, device_.base() + at, kPage);
    });
  }

  // ── what happens by itself

  /** The kernel writes some of it back, as it may at any time. */
  void WriteBack(Random* random) {
    if (clean_ != nullptr) return;
    const uint64_t percent = std::array<uint64_t, 3>{5, 50, 95}[Below(random, 3)];
    const bool words = Chance(random, 50);
    ForEachPage([&](uint64_t at) {
      if (std::memcmp(memory() + at, device_.base() + at, kPage) == 0 || !Chance(random, percent)) return;
      for (uint64_t i = 0; i < kPage; i += 8) {
        if (!words || (*random)() % 2 == 0) std::memcpy(device_.base() + at + i, memory() + at + i, 8);
      }
    });
  }

  /** What a machine finds that is started again after a cut at this moment. Of each word that the device may not have
   * yet the old content or the new one. */
  std::shared_ptr<SimulatedDisk> Cut(Random* random) const;

  /** The machine goes on, with another process: an equal disk, and memory. */
  std::shared_ptr<SimulatedDisk> Fork() const {
    auto copy = std::make_shared<SimulatedDisk>(max_bytes_);
    copy->SetLength(bytes_);
    copy->lengths_ = lengths_;
    std::memcpy(copy->memory(), memory(), bytes_);
    std::memcpy(copy->device_.base(), device_.base(), bytes_);
    if (clean_ != nullptr) {
      copy->clean_ = std::make_unique<Arena>(max_bytes_);
      copy->clean_->used = bytes_;
      std::memcpy(copy->clean_->base(), clean_->base(), bytes_);
    }
    return copy;
  }

  uint64_t DirtyWords() const {
    uint64_t words = 0;
    ForEachPage([&](uint64_t at) { words += DifferentWords(at); });
    return words;
  }

 private:
  template <typename Body>
  void ForEachPage(const Body& body) const {
    for (uint64_t at = 0; at < bytes_; at += kPage) body(at);
  }
  uint64_t DifferentWords(uint64_t at) const {
    if (std::memcmp(memory() + at, device_.base() + at, kPage) == 0) return 0;
    uint64_t words = 0;
    for (uint64_t i = 0; i < kPage; i += 8)
      words += std::memcmp(memory() + at + i, device_.base() + at + i, 8) != 0 ? 1 : 0;
    return words;
  }

  void SetLength(uint64_t bytes) {
    // A store behind the end of the file would have been a fault.
    for (uint64_t at = bytes_; at < std::min(bytes, memory_.used); at += 8) {
      uint64_t word;
      std::memcpy(&word, memory() + at, 8);
      if (word != 0) ::abort();
    }
    bytes_ = bytes;
    lengths_.push_back(bytes);
    memory_.used = device_.used = std::max(memory_.used, bytes);
    if (clean_ != nullptr) clean_->used = memory_.used;
  }

  void WriteAllBack() {
    ForEachPage([&](uint64_t at) {
      if (std::memcmp(memory() + at, device_.base() + at, kPage) != 0)
        std::memcpy(device_.base() + at, memory() + at, kPage);
    });
    lengths_ = {bytes_};
  }

  void WriteDirtyBack() {
    ForEachPage([&](uint64_t at) {
      if (std::memcmp(memory() + at, clean_->base() + at, kPage) == 0) return;
      std::memcpy(device_.base() + at, memory() + at, kPage);
      std::memcpy(clean_->base() + at, memory() + at, kPage);
    });
    lengths_ = {bytes_};
  }

  void FailToSync() {
    const uint64_t percent = Below(failing, 101);
    const bool words = Chance(failing, 50);
    if (clean_ == nullptr) {
      clean_ = std::make_unique<Arena>(max_bytes_);
      clean_->used = bytes_;
      std::memcpy(clean_->base(), device_.base(), bytes_);
    }
    ForEachPage([&](uint64_t at) {
      if (std::memcmp(memory() + at, clean_->base() + at, kPage) == 0) return;
      for (uint64_t i = 0; i < kPage; i += 8) {
        if (words ? Chance(failing, percent) : percent > 50) std::memcpy(device_.base() + at + i, memory() + at + i, 8);
      }
      std::memcpy(clean_->base() + at, memory() + at, kPage);
    });
  }

  struct Mixer;

  const uint64_t max_bytes_;
  uint64_t bytes_ = 0;
  std::vector<uint64_t> lengths_;  // that the device may say
  Arena memory_;
  Arena device_;
  std::unique_ptr<Arena> clean_;  // what the kernel takes for the device's; nullptr: it is right
};

/** Which of the words that differ are new, by one of several policies. */
struct SimulatedDisk::Mixer {
  enum Policy : uint64_t {
    kOld,
    kNew,
    kWords,    // each word for itself
    kSectors,  // of 512 bytes
    kPages,
    kUnits,         // of 64 KiB
    kRuns,          // of words: long stretches
    kPageRuns,      // of pages
    kAgainstTrend,  // some pages
    kOneWord,       // a single word is new
    kOneLost,       // a single word is old
    kAreas,         // superblocks, control, tables, queues, index, values, all else: each with a share of its own
    kPolicies
  };

  Mixer(Random* source, uint64_t head_bytes, uint64_t bytes) : random(*source), head_end(head_bytes) {
    policy = static_cast<Policy>(Below(&random, kPolicies));
    constexpr uint64_t kPercents[] = {50, 50, 50, 3, 10, 90, 97};
    percent = kPercents[Below(&random, std::size(kPercents))];
    take_new = Chance(&random, 50);
    trend = Chance(&random, 50);
    const uint64_t pages = bytes / kPage;
    for (uint64_t i = 1 + Below(&random, 8); i > 0; i--) odd_pages.push_back(Below(&random, pages));
    for (uint64_t& share : shares) share = std::array<uint64_t, 6>{0, 100, 50, 5, 95, 100}[Below(&random, 6)];
  }

  /** Before the words of a page. */
  void BeginPage(uint64_t at, size_t area) {
    const uint64_t page = at / kPage;
    if (policy == kPages || (policy == kUnits && at / faultless::format::kUnitBytes != unit)) {
      take_new = Chance(&random, percent);
    }
    unit = at / faultless::format::kUnitBytes;
    if (policy == kPageRuns && Chance(&random, 20)) take_new = !take_new;
    if (policy == kAgainstTrend) {
      take_new = trend != (std::find(odd_pages.begin(), odd_pages.end(), page) != odd_pages.end());
    }
    share = shares[area];
  }

  bool IsNew(uint64_t at) {
    switch (policy) {
      case kOld:
        return false;
      case kNew:
        return true;
      case kWords:
        return Chance(&random, percent);
      case kSectors:
        if (at / 512 != sector) take_new = Chance(&random, percent);
        sector = at / 512;
        return take_new;
      case kRuns:
        if (Chance(&random, 4)) take_new = !take_new;
        return take_new;
      case kOneWord:
        return countdown-- == 0;
      case kOneLost:
        return countdown-- != 0;
      case kAreas:
        return Chance(&random, share);
      default:
        return take_new;
    }
  }

  Random& random;
  const uint64_t head_end;
  Policy policy;
  uint64_t percent;
  uint64_t countdown = 0;  // kOneWord, kOneLost: words before it
  bool take_new;
  bool trend;
  uint64_t sector = ~uint64_t{0};
  uint64_t unit = ~uint64_t{0};
  std::vector<uint64_t> odd_pages;
  std::array<uint64_t, 8> shares;  // in percent
  uint64_t share = 0;
};

inline std::shared_ptr<SimulatedDisk> SimulatedDisk::Cut(Random* random) const {
  namespace format = faultless::format;
  const uint64_t head_units = format::HeadUnits(format::kDefaultShards);
  auto found = std::make_shared<SimulatedDisk>(max_bytes_);
  found->SetLength(lengths_[Below(random, lengths_.size())]);
  found->lengths_ = {found->bytes_};
  Mixer mixer(random, head_units * format::kUnitBytes, bytes_);
  if (mixer.policy == Mixer::kOneWord || mixer.policy == Mixer::kOneLost) {
    mixer.countdown = Below(random, DirtyWords() + 1);
  }
  const auto area_of = [&](uint64_t at) -> size_t {
    const uint64_t unit = at / format::kUnitBytes;
    if (at < format::kControlOffset) return 0;
    if (unit < head_units) return 1;
    if (unit == head_units || unit % format::kUnitsPerGroup == 0) return 2;
    const uint64_t table = unit < format::kUnitsPerGroup ? head_units : unit & ~(format::kUnitsPerGroup - 1);
    const auto& entry = reinterpret_cast<const format::TableEntry*>(
        memory() + table * format::kUnitBytes)[unit % format::kUnitsPerGroup];
    return 2 + std::min<size_t>(static_cast<size_t>(format::KindOf(entry.identity.load())), 5);
  };
  for (uint64_t at = 0; at < found->bytes_; at += kPage) {
    const std::byte* const now = memory() + at;
    const std::byte* const was = device_.base() + at;
    std::byte* const mixed = found->memory() + at;
    std::memcpy(mixed, was, kPage);
    if (std::memcmp(now, was, kPage) != 0) {
      mixer.BeginPage(at, area_of(at));
      for (uint64_t i = 0; i < kPage; i += 8) {
        if (std::memcmp(now + i, was + i, 8) != 0 && mixer.IsNew(at + i)) std::memcpy(mixed + i, now + i, 8);
      }
    }
    std::memcpy(found->device_.base() + at, mixed, kPage);
  }
  return found;
}

/** The disk as a process has it open. Locks on bytes are this opening's own: one process at a time. */
class SimulatedStorage : public faultless::store::Storage {
 public:
  using Status = faultless::Status;

  explicit SimulatedStorage(std::shared_ptr<SimulatedDisk> disk) : disk_(std::move(disk)) {
    base_ = disk_->memory();
    max_bytes_ = disk_->max_bytes();
  }

  Status FileBytes(uint64_t* size) override {
    *size = disk_->bytes();
    return {};
  }
  Status Reserve(uint64_t offset, uint64_t length) override { return disk_->Reserve(offset, length); }
  Status Write(uint64_t offset, const void* source, size_t size) override {
    // A write of a page is no more atomic than stores are.
    for (size_t i = 0; i < size; i += 8) {
      FAULTLESS_FAIL_POINT();
      std::memcpy(base_ + offset + i, static_cast<const std::byte*>(source) + i, std::min<size_t>(8, size - i));
    }
    return {};
  }
  Status Sync() override { return disk_->Sync(); }
  Status CopyTo(int, uint64_t, uint64_t) override { return Status(faultless::Code::kUnsupported); }
  Status Punch(uint64_t offset, uint64_t length) override {
    std::memset(base_ + offset, 0, length);
    return {};
  }
  Status PopulateRead(uint64_t, uint64_t) override { return {}; }
  Status PopulateWrite(uint64_t, uint64_t) override { return {}; }
  Status Lock(uint64_t, uint64_t) override { return {}; }
  void DropCache() override { disk_->DropCache(); }
  void WillNeed(uint64_t, uint64_t) override {}

  bool IsResident(uint64_t, uint64_t) override { return true; }
  Status CountResident(uint64_t, uint64_t length, uint64_t* pages) override {
    *pages = length / SimulatedDisk::kPage;
    return {};
  }
  bool residency_known() const override { return true; }
  uint64_t SubstituteChanges() const override { return 0; }
  bool HasSubstitutes() const override { return false; }
  bool IsSubstituted(uint64_t, uint64_t) const override { return false; }
  size_t Restore() override { return 0; }

  Status TryLockByte(uint64_t, bool, bool* acquired) override {
    *acquired = true;
    return {};
  }
  Status UnlockByte(uint64_t) override { return {}; }
  Status IsByteLocked(uint64_t, bool* locked) override {
    *locked = false;  // by anybody else
    return {};
  }

 private:
  const std::shared_ptr<SimulatedDisk> disk_;
};

}  // namespace store_test
