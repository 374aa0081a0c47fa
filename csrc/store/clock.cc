#include "store/clock.h"

#include <algorithm>

#include "base/hash.h"
#include "os/os.h"

namespace faultless::store {
namespace {

constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;
/** A clock word: milliseconds above so many bits of check. */
constexpr uint32_t kCheckBits = 20;
constexpr uint64_t kMostMs = (uint64_t{1} << 43) - 1;  // the year 2248
/** The watermark may be so far behind, but for flushes and closing. */
constexpr uint64_t kWatermarkStepMs = 1000;
/** Two clocks that are read one after the other may differ by one for no reason. */
constexpr uint64_t kToleranceMs = 1;

/** What may be believed of a file is told by a check: a torn or damaged word would let everything expire. */
uint64_t Seal(const Context& context, uint64_t ms, const uint64_t boot_id[2]) {
  const uint64_t words[3] = {ms, boot_id[0], boot_id[1]};
  const uint64_t check = HashBytes(words, sizeof words, context.superblock.hash_seed);
  return ms << kCheckBits | (check & ((uint64_t{1} << kCheckBits) - 1));
}

bool IsSealed(const Context& context, uint64_t word, const uint64_t boot_id[2]) {
  const uint64_t ms = word >> kCheckBits;
  return word != 0 && ms <= kMostMs && Seal(context, ms, boot_id) == word;
}

constexpr uint64_t kAnyBoot[2] = {};

uint64_t WatermarkMs(const Context& context) {
  const uint64_t word = context.header().clock_watermark.load(kAcquire);
  return IsSealed(context, word, kAnyBoot) ? word >> kCheckBits : 0;
}

/** Lets a word of the file grow to `ms`; what fails its check counts for nothing. */
void Raise(const Context& context, format::Word* word, uint64_t ms, const uint64_t boot_id[2]) {
  const uint64_t wanted = Seal(context, std::min(ms, kMostMs), boot_id);
  uint64_t seen = word->load(kAcquire);
  while (!IsSealed(context, seen, boot_id) || seen >> kCheckBits < wanted >> kCheckBits) {
    if (word->compare_exchange_strong(seen, wanted, std::memory_order_acq_rel, kAcquire)) return;
  }
}

void RaiseOwn(const Context& context, uint64_t offset_ms) {
  uint64_t seen = context.clock.offset_ms.load(kAcquire);
  while (seen < offset_ms && !context.clock.offset_ms.compare_exchange_weak(seen, offset_ms)) {
  }
}

/** The offset in the file is another one than this process saw last. */
void Adopt(const Context& context, uint64_t word) {
  if (IsSealed(context, word, context.clock.boot_id)) RaiseOwn(context, word >> kCheckBits);
  // After the offset: who finds the word here finds what it says.
  context.clock.word_seen.store(word, kRelease);
}

uint64_t OffsetOf(uint64_t now_ms, uint64_t since_boot_ms) {
  return now_ms > since_boot_ms ? std::min(now_ms - since_boot_ms, kMostMs) : 0;
}

}  // namespace

void BeginClock(Context& context, const uint64_t boot_id[2]) {
  context.clock.boot_id[0] = boot_id[0];
  context.clock.boot_id[1] = boot_id[1];
  const uint64_t word = context.header().clock_offset.load(kAcquire);
  const uint64_t watermark_ms = WatermarkMs(context);
  const uint64_t since_boot_ms = os::BootClockMs();
  // Where there is a clock of this boot it counts alone, so that all tell the same millisecond.
  if (IsSealed(context, word, boot_id)) {
    RaiseOwn(context, std::max(word >> kCheckBits, OffsetOf(watermark_ms, since_boot_ms)));
  } else {
    RaiseOwn(context, OffsetOf(std::max(os::WallClockMs(), watermark_ms), since_boot_ms));
  }
}

uint64_t NowMs(const Context& context) {
  const uint64_t word = context.header().clock_offset.load(kAcquire);
  if (word != context.clock.word_seen.load(kAcquire)) Adopt(context, word);
  return os::BootClockMs() + context.clock.offset_ms.load(kAcquire);
}

void FollowWallClock(const Context& context) {
  if (context.read_only) return;
  const uint64_t now_ms = NowMs(context);
  const uint64_t wall_ms = os::WallClockMs();
  if (wall_ms > now_ms + kToleranceMs) RaiseOwn(context, OffsetOf(wall_ms, os::BootClockMs()));
  const uint64_t offset_ms = context.clock.offset_ms.load(kAcquire);
  const uint64_t word = context.header().clock_offset.load(kAcquire);
  if (word >> kCheckBits != offset_ms || !IsSealed(context, word, context.clock.boot_id)) {
    Raise(context, &context.header().clock_offset, offset_ms, context.clock.boot_id);
  }
  if (NowMs(context) >= WatermarkMs(context) + kWatermarkStepMs) NoteClock(context);
}

void NoteClock(const Context& context) {
  if (!context.read_only) Raise(context, &context.header().clock_watermark, NowMs(context), kAnyBoot);
}

void CarryClock(const Context& source, const Context& copy) {
  Raise(copy, &copy.header().clock_watermark, NowMs(source), kAnyBoot);
}

}  // namespace faultless::store
