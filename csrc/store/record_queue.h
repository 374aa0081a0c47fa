// Purpose: a shard's queue of records: extents in order of age; records are appended at the head, and only the oldest
// extent is ever released. Thread safety: the holder of the shard's lock, but for PrefaultHead. Invariants: bytes
// behind the head are nobody's; a record is part of the queue once a transaction has moved the head past it. Extent
// sequences have no gaps.
#pragma once

#include <vector>

#include "format/record.h"
#include "os/os.h"
#include "store/allocator.h"
#include "store/transaction.h"

namespace faultless::store {

/** Bytes for one record, 8-aligned, kept by each thread: one for a record that was read, one for a record to be
 * written. */
enum class Scratch : uint8_t { kRead, kWrite };
uint8_t* RecordScratch(Scratch which, uint64_t size);

/** May wait; needs no lock. Brings the pages that the next `bytes` of the queue will go to into memory, writable. */
Status PrefaultHead(const Context& context, uint32_t shard_index, uint64_t bytes);

/**
 * Under the shard's lock, which its last holder died with and whose intent has been replayed: records that it wrote
 * behind the end of the queue and never made part of it are none any more, for a recovery either, once a flush covers
 * this. One word of each: of one record, or of what a batch has in the shard. May wait. kIo, kNoSpace: do it again.
 */
Status EraseUnfinished(const Context& context, uint32_t shard_index);

/**
 * Makes sure that `bytes` fit at the head, taking a new extent where they do not. kStoreFull, kNoSpace, kWouldBlock,
 * kIo: the queue is as it was. `smallest`: space is scarce, so the extent is no larger than it must be.
 */
Status EnsureRoom(const Context& context, uint32_t shard_index, uint64_t bytes, Purpose purpose, bool smallest = false);
/** How many units that would take at least. */
Status UnitsForRoom(const Context& context, uint32_t shard_index, uint64_t bytes, uint64_t* units);

/** Lets the head go on in a fresh extent, so that cleaning can get to all that is in the present one. Codes as above.
 */
Status BeginExtent(const Context& context, uint32_t shard_index, Purpose purpose);

/**
 * Puts an encoded record (sealed here) at the head, which has room, and lets `transaction` move the head past it.
 * Returns the record's position. Until Commit nothing has changed.
 */
uint64_t Append(const Context& context, uint32_t shard_index, uint8_t* record, uint64_t bytes,
                Transaction* transaction);

/** For a flush: appends a mark where anything has been appended, or the tail has moved, since the last one. */
Status AppendMark(const Context& context, uint32_t shard_index);

/** Copies the record at `position` into this thread's read scratch and decodes it: kCorrupt where it cannot be one. */
Status ReadRecordAt(const Context& context, uint64_t position, format::RecordView* record, uint64_t* bytes);

/**
 * The same for a record that is to end at `limit` at most and be whole: kCorrupt also where its checksum does not
 * match, or its seal with that incarnation of its extent.
 */
Status ReadSealedRecord(const Context& context, uint64_t position, uint64_t limit, uint64_t incarnation,
                        format::RecordView* record, uint64_t* bytes);

/** What the holder of the lock needs to know of a record that it replaces or drops. */
struct RecordFacts {
  uint64_t bytes = 0;
  uint64_t expires_at_ms = 0;  // 0: never
  uint64_t run_bytes = 0;
};
/** kOk where the record at `position` is of this key, kAbsent where it is of another, kCorrupt where it cannot be one.
 * Copies no value. */
Status MatchKey(const Context& context, uint64_t position, std::span<const uint8_t> key, RecordFacts* facts);

/** Unlinks the oldest extent, which the tail has left behind, and releases it by the release rule. False in *moved: it
 * is the head's. */
Status LeaveTailExtent(const Context& context, uint32_t shard_index, bool* moved);
/** Releases an extent that a dead holder unlinked. */
Status ReleaseRetired(const Context& context, uint32_t shard_index);

/** Whether the record at `position` may be part of what a completed flush, or one under way, promised. */
bool IsPromised(const Context& context, uint32_t shard_index, uint64_t position);
/** The same of the value runs that the record at `position` refers to. */
bool AreRunsPromised(const Context& context, uint32_t shard_index, uint64_t position, const format::RecordView& record);
/** Releases the value runs of a record that is dead; those that have been released before are left alone. */
Status ReleaseRuns(const Context& context, std::span<const format::RunReference> runs, bool promised);

}  // namespace faultless::store
