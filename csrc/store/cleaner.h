// Purpose: giving back the space of dead records. Only the oldest extent is ever cleaned: what is dead there
// (superseded, deleted, expired, tombstones) is dropped, what lives is appended again at the head. So nothing older
// exists that a dropped tombstone could have hidden, and there is no search for a victim. Every write pays for a
// bounded number of records. Source: the circular log of Rosenblum and Ousterhout's LFS (1992), cleaned in order of age
// as in FASTER's compaction. Thread safety: the holder of the shard's lock.
#pragma once

#include "base/status.h"
#include "format/record.h"
#include "store/allocator.h"
#include "store/context.h"
#include "store/index.h"

namespace faultless::store {

struct CleaningBudget {
  uint32_t scanned_records;
  uint32_t moved_records;
  uint64_t moved_bytes;
  uint64_t evicted_bytes = 0;  // of live records and their values, at most (eviction.h); 0: what lives is moved
  Purpose purpose = Purpose::kReserve;  // of the extents that what lives is moved to
};
/** What one write pays. */
constexpr CleaningBudget kCleaningPerWrite{64, 8, 64 * 1024};

/** Whether there are records at the tail that a clear has killed: their value runs count as garbage nowhere. */
bool HasCleared(const Context& context, uint32_t shard_index);

/** Whether the queue holds more dead bytes than it may. */
bool NeedsCleaning(const Context& context, uint32_t shard_index);

/** One step at the tail within the budget; *left_extents: how many extents were released. */
Status Clean(const Context& context, uint32_t shard_index, CleaningBudget budget, uint32_t* left_extents);

/** The index entry that refers to the record at `position`, or kAbsent: the record is dead. */
Status FindEntryOf(const Context& context, uint32_t shard_index, uint64_t hash, uint64_t position, IndexHit* hit);

/** Why a live record goes without anybody having asked for it. */
struct Drop {
  uint64_t hash;   // of its key
  uint64_t bytes;  // of the record
  uint8_t reason;  // kReasonExpired, kReasonEvicted
};
/**
 * Takes a live record off the index. Who watches is told by a tombstone with the reason, or by untold_drops. One with
 * value runs leaves a tombstone in any case, as a delete would: these runs are released, and recovery, which must tell
 * a record that lost its runs that way from one that was never whole, cannot ask the clock: it may have gone back. The
 * record is in the read scratch; one that is evicted stands at the tail. The holder of the shard's lock.
 */
Status DropRecord(const Context& context, uint32_t shard_index, const IndexHit& hit, const format::RecordView& record,
                  const Drop& drop);

/** Bytes of the queue that no live record takes. */
uint64_t GarbageBytes(const Context& context, uint32_t shard_index);

}  // namespace faultless::store
