// Purpose: the store's clock, by which values expire: milliseconds since 1970 that all processes agree on and that
// never go back, whatever happens to the wall clock. Within one boot it is the system's clock since boot plus an offset
// in the file, which only grows; from one boot to the next a watermark in the file carries it over. Thread safety: any
// thread. NowMs never waits and stores nothing to the file: it is for the event loop, too. Invariants: the offset in
// the file grows as long as it is one for this boot; no two words have to be of one moment.
#pragma once

#include <cstdint>

#include "format/record.h"
#include "store/context.h"

namespace faultless::store {

/** The latest expiry there is: numbers of JavaScript are exact up to here. */
constexpr uint64_t kLatestExpiryMs = (uint64_t{1} << 53) - 1;

/** For the opener, before anything asks for the time. Stores nothing to the file. */
void BeginClock(Context& context, const uint64_t boot_id[2]);

uint64_t NowMs(const Context& context);

/**
 * Lets the clock catch up with a wall clock that is ahead of it, and the watermark with the clock once a second. For
 * whoever may write, now and then: before a value gets an expiry, with each batch of operations.
 */
void FollowWallClock(const Context& context);

/** The watermark becomes what the clock says: a sync that begins later carries that through a power cut. */
void NoteClock(const Context& context);

/** The watermark of a fresh copy of the store: what `source` says. */
void CarryClock(const Context& source, const Context& copy);

/** Whether what expires then (0: never) is to be seen no more. */
inline bool IsExpired(const Context& context, uint64_t expires_at_ms) {
  return expires_at_ms != 0 && expires_at_ms <= NowMs(context);
}
inline bool IsExpired(const Context& context, const format::RecordView& record) {
  return (record.flags & format::kRecordExpires) != 0 && record.expires_at_ms <= NowMs(context);
}

}  // namespace faultless::store
