// Purpose: how those who change a store tell those who watch it (store/watch.h) that there is something new. Whoever
// has let the queue of a shard grow looks, after it has let go of the lock, at one word that says whether somebody
// sleeps; where nobody does, which is what all stores have that nobody watches, that is all.
// Thread safety: any thread of any process that may write, without a lock. Never waits. Invariants: the words move by
// sequentially consistent operations, so that either the sleeper's last look finds what was committed, or the committer
// finds the sleeper: as with the queues of an exchange (docs/concurrency.md).
#pragma once

#include "os/os.h"
#include "store/context.h"

namespace faultless::store {

/** Wakes all that sleep, once: the first of them that finds nothing announces itself anew. */
[[gnu::noinline, gnu::cold]] inline void RingWatchBell(const Context& context) {
  format::ControlHeader& header = context.header();
  if (header.watch_sleepers.exchange(0, std::memory_order_seq_cst) == 0) return;
  header.watch_bell.fetch_add(1, std::memory_order_seq_cst);
  os::WakeWord(&header.watch_bell, ~uint32_t{0} >> 1);
}

/** After a commit, when its lock has been let go of. */
inline void TellWatchers(const Context& context) {
  if (context.read_only) return;
  if (context.header().watch_sleepers.load(std::memory_order_seq_cst) != 0) RingWatchBell(context);
}

/**
 * Whether what the engine drops by itself, without a call that asked for it, is to leave a tombstone that tells so:
 * somebody watches, or did until a moment ago. Where it leaves none, ShardControl::untold_drops moves on in the same
 * transaction.
 */
constexpr uint64_t kWatchLeaseMs = 30'000;
inline bool IsWatched(const Context& context) {
  const uint64_t until_ms = context.header().watched_until_ms.load(std::memory_order_acquire);
  if (until_ms == 0) return false;
  const uint64_t now_ms = os::BootClockMs();
  return now_ms < until_ms && until_ms - now_ms <= kWatchLeaseMs;  // else it is of another boot
}

/** For who watches and may write: IsWatched is true for a while. Who is killed is forgotten by the end of that. */
inline void RenewWatch(const Context& context) {
  if (context.read_only) return;
  format::Word& until = context.header().watched_until_ms;
  const uint64_t now_ms = os::BootClockMs();
  uint64_t seen = until.load(std::memory_order_acquire);
  // Not for each look; and what lies further ahead is of another boot, or damaged.
  while (seen < now_ms + kWatchLeaseMs / 2 || seen > now_ms + kWatchLeaseMs) {
    if (until.compare_exchange_weak(seen, now_ms + kWatchLeaseMs, std::memory_order_acq_rel)) return;
  }
}

}  // namespace faultless::store
