// Purpose: room in a full store that evicts (option onFull). The oldest extent of the largest shard is cleaned as
// always, but of its live records only those are appended again that have been used lately (use_marks.h), and of these
// no more bytes than have been given up: the rest is taken off the index. So a full store is a queue in which what is
// used gets another turn: the CLOCK of Corbató (1968), with marks that outlive a turn, so that a scan of keys that
// nobody reads again does not wash out those that are.
//
// An evicted record needs no tombstone: it is the oldest of the queue, and nothing older is left that it could have
// hidden. One with value runs does, as one that expires does, and where somebody watches each has one (DropRecord).
// docs/format.md, "Eviction", has the rest.
//
// Thread safety: as said at each. May wait for the device and, 1 ms at most, for a lock.
#pragma once

#include "base/status.h"
#include "format/record.h"
#include "store/cleaner.h"
#include "store/context.h"
#include "store/index.h"
#include "store/transaction.h"

namespace faultless::store {

/** Whether a live record at the tail is to go. Spends, or earns, what the shard's records may be kept for. The holder
 * of the shard's lock. */
bool IsToBeEvicted(const Context& context, uint32_t shard_index, uint64_t hash, uint64_t bytes);

/**
 * Of the drop of a live record at the tail that has no value runs: the tail moves past it in the same transaction. (One
 * that has is found dead by the next turn of Clean, which releases them.) The holder of the shard's lock.
 */
void PassEvicted(const Context& context, uint32_t shard_index, uint64_t bytes, Transaction* transaction);

/** A dead record at the tail gives back space without anything being lost for it. The holder of the shard's lock. */
void NoteDead(const Context& context, uint32_t shard_index, uint64_t bytes);

/**
 * Whether a key that is absent may have a record before the tail that a power cut, or a backup, would bring back: then
 * a delete must leave a tombstone all the same. The holder of the shard's lock.
 */
bool MayComeBack(const Context& context, uint32_t shard_index);

/** Whether the store can never hold so many bytes in one value. */
bool IsTooLarge(const Context& context, uint64_t value_bytes);

/** What each write to a store that is nearly full pays, under no lock: so none has to wait for much at once. A failure
 * of it is no failure of the write. */
void PayForEviction(Context& context);

/**
 * For a write that has found no room, under no lock: makes some, for so many bytes about. Waits for the flush that
 * gives back what is evicted where that was promised. *progress: it is worth trying again. kWouldBlock, kIo: as a
 * flush.
 */
Status EvictForRoom(Context& context, uint64_t bytes, bool* progress);

}  // namespace faultless::store
