#include "store/residency.h"

#include <algorithm>

namespace faultless::store {

bool Residency::StaysResident(const ResidencyMoment& moment) {
  if (storage_->durable()) return false;
  const uint64_t asked = ram_asked_ns_.load(std::memory_order_relaxed);
  if (asked != 0 && moment.ns - asked < kRamNs) return ram_stays_.load(std::memory_order_relaxed);
  const bool stays = storage_->StaysResident();
  ram_stays_.store(stays, std::memory_order_relaxed);
  ram_asked_ns_.store(moment.ns, std::memory_order_relaxed);
  return stays;
}

bool Residency::CoversPages(uint64_t offset, uint64_t length, const ResidencyMoment& moment) {
  if (stretches_ == nullptr || regions_ == nullptr) return storage_->IsResident(offset, length);
  const uint64_t first = offset >> kPageShift;
  const uint64_t last = (offset + length - 1) >> kPageShift;
  for (uint64_t page = first; page <= last;) {
    const uint64_t stretch = page / kPages;
    const uint64_t until = std::min(last + 1, (stretch + 1) * kPages);
    const uint64_t wanted = ((uint64_t{1} << (until - page)) - 1) << (page % kPages);
    if (!CoversStretch(stretch, wanted, moment)) return false;
    page = until;
  }
  return true;
}

bool Residency::CoversStretch(uint64_t stretch, uint64_t wanted, const ResidencyMoment& moment) {
  const std::atomic<uint64_t>& word = stretches_.get()[stretch];
  const auto covers = [&] {
    const uint64_t seen = word.load(std::memory_order_relaxed);
    return (seen & wanted) == wanted && Counts(seen, moment);
  };
  if (covers()) return true;
  const uint64_t region = stretch / kStretches;
  const uint64_t seen = regions_.get()[region].load(std::memory_order_relaxed);
  const auto age = static_cast<int32_t>(TickOf(moment) - static_cast<uint32_t>(seen >> 32));
  // A region that is there in part only is soon asked about again: not every time.
  const bool in_part = seen != 0 && (seen & 1) == 0 && age >= -kNewerTicks && age < kSecondTicks;
  if (!in_part) {
    AskAboutRegion(region, moment);
    return covers();
  }
  const uint64_t offset = stretch << kStretchShift;
  uint32_t there = 0;
  storage_->ResidentPages(offset, std::min(uint64_t{1} << kStretchShift, storage_->max_bytes() - offset), &there);
  Note(stretch, there, moment);
  return (there & wanted) == wanted;
}

void Residency::AskAboutRegion(uint64_t region, const ResidencyMoment& moment) {
  const uint64_t offset = region << kRegionShift;
  const uint64_t length = std::min(uint64_t{1} << kRegionShift, storage_->max_bytes() - offset);
  uint32_t there[kStretches] = {};
  storage_->ResidentPages(offset, length, there);
  bool whole = true;
  for (uint64_t i = 0; i < kStretches && (i << kStretchShift) < length; i++) {
    Note(region * kStretches + i, there[i], moment);
    whole = whole && there[i] == ~uint32_t{0};
  }
  // Bit 1 tells the answer "not as a whole" at tick 0 from none.
  const uint64_t answer = whole ? 3 : 2;
  regions_.get()[region].store(uint64_t{TickOf(moment)} << 32 | answer, std::memory_order_relaxed);
}

void Residency::Note(uint64_t stretch, uint32_t there, const ResidencyMoment& moment) {
  std::atomic<uint64_t>& word = stretches_.get()[stretch];
  const uint64_t before = word.load(std::memory_order_relaxed);
  const uint64_t tick = TickOf(moment);
  if ((static_cast<uint32_t>(before) & ~there) != 0) loss_.store(tick << 32 | 1, std::memory_order_relaxed);
  word.store(tick << 32 | there, std::memory_order_relaxed);
}

}  // namespace faultless::store
