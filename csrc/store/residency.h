// Purpose: what is known to be in memory without asking the kernel about every page of every read.
//
// - A store in RAM, where nothing is swapped out: everything.
// - For reads that must not wait: pages that the kernel has called resident within the last 2 ms; within the last
//   130 µs as long as any page of the file has left memory during the last second.
// - For reads that may wait but would rather answer later than hold others up: a quarter of a second ago.
// A question costs a microsecond, and hardly more for many pages: it is about 512 pages at once (2 MiB, a region), or
// about 32 (a stretch) where a region was not in memory as a whole.
//
// Thread safety: any thread; a lost note costs a question. Never waits.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "os/os.h"
#include "store/storage.h"

namespace faultless::store {

/** The moment of a read, and how much it hangs on the proof. */
struct ResidencyMoment {
  bool lenient = false;
  uint64_t ns = 0;

  static ResidencyMoment Now(bool lenient) { return {lenient, lenient ? os::MonotonicCoarseNs() : os::MonotonicNs()}; }
};

class Residency {
 public:
  explicit Residency(Storage* storage)
      : storage_(storage),
        regions_(NewWords(storage->max_bytes() >> kRegionShift)),
        stretches_(NewWords(storage->max_bytes() >> kStretchShift)) {}
  Residency(const Residency&) = delete;
  Residency& operator=(const Residency&) = delete;

  /** Whether it can be told at all what is in memory. */
  bool IsKnown() const { return storage_->residency_known() || storage_->StaysResident(); }

  bool Covers(uint64_t offset, uint64_t length, const ResidencyMoment& moment) {
    if (StaysResident(moment)) return true;
    const uint64_t region = offset >> kRegionShift;
    if (regions_ != nullptr && (offset + length - 1) >> kRegionShift == region) {
      const uint64_t seen = regions_.get()[region].load(std::memory_order_relaxed);
      if ((seen & 1) != 0 && Counts(seen, moment)) return true;
    }
    return CoversPages(offset, length, moment);
  }

 private:
  // 65 µs each: a proof of the tick before counts.
  static constexpr uint64_t kTickShift = 16;
  static constexpr int32_t kStrictTicks = 1;
  static constexpr int32_t kCalmTicks = 30;
  static constexpr int32_t kLenientTicks = 3'800;
  static constexpr int32_t kSecondTicks = 15'259;
  static constexpr int32_t kNewerTicks = 200;  // 13 ms
  static constexpr uint64_t kPageShift = 12;   // no system has smaller pages
  static constexpr uint64_t kPages = 32;       // of a stretch
  static constexpr uint64_t kStretchShift = kPageShift + 5;
  static constexpr uint64_t kStretches = 16;  // of a region
  static constexpr uint64_t kRegionShift = kStretchShift + 4;
  static constexpr uint64_t kRamNs = 1'000'000'000;  // swap may be turned on at any time

  struct Free {
    void operator()(std::atomic<uint64_t>* words) const { std::free(words); }
  };
  /** Zeros that take no memory before they are used. */
  using Words = std::unique_ptr<std::atomic<uint64_t>, Free>;

  static Words NewWords(uint64_t count) {
    return Words(static_cast<std::atomic<uint64_t>*>(std::calloc(count + 1, sizeof(std::atomic<uint64_t>))));
  }
  static uint32_t TickOf(const ResidencyMoment& moment) { return static_cast<uint32_t>(moment.ns >> kTickShift); }

  /**
   * Whether an answer still counts: a word with the tick of the answer in its upper half. Ticks begin anew after 78
   * hours, so that only a proof of just that age could be mistaken.
   */
  bool Counts(uint64_t word, const ResidencyMoment& moment) const {
    // Below zero: another thread's answer is newer than this moment, which may have been told by the coarse clock.
    const auto age = static_cast<int32_t>(TickOf(moment) - static_cast<uint32_t>(word >> 32));
    if (age < -kNewerTicks) return false;
    if (moment.lenient || age <= kStrictTicks) return age <= kLenientTicks;
    return age <= kCalmTicks && IsCalm(moment);
  }
  /** Whether no page has been seen to leave memory for a second. */
  bool IsCalm(const ResidencyMoment& moment) const {
    const uint64_t loss = loss_.load(std::memory_order_relaxed);
    const auto age = static_cast<int32_t>(TickOf(moment) - static_cast<uint32_t>(loss >> 32));
    return loss == 0 || age > kSecondTicks || age < -kNewerTicks;
  }

  bool StaysResident(const ResidencyMoment& moment);
  bool CoversPages(uint64_t offset, uint64_t length, const ResidencyMoment& moment);
  bool CoversStretch(uint64_t stretch, uint64_t wanted, const ResidencyMoment& moment);
  void AskAboutRegion(uint64_t region, const ResidencyMoment& moment);
  void Note(uint64_t stretch, uint32_t there, const ResidencyMoment& moment);

  Storage* const storage_;
  std::atomic<uint64_t> ram_asked_ns_{0};
  std::atomic<bool> ram_stays_{false};
  std::atomic<uint64_t> loss_{0};  // when a page was last missed that had been there: tick << 32 | 1
  // A word each, so that nobody sees the pages of one answer with the tick of another.
  const Words regions_;  // tick of the last answer << 32 | 1 where all of it was there; an answer is never older than 0
  const Words stretches_;  // tick of the last answer << 32 | its pages that were there
};

}  // namespace faultless::store
