// Purpose: where everything is in a store file, and the words of it. docs/format.md is this file in prose; one commit
// changes both.
//
// All integers are little-endian. The file is counted in units of 64 KiB:
//
//   unit 0 …            superblock A (4 KiB), superblock B (4 KiB), control region; padded to whole units
//   first unit of each group of 1,024 units (in group 0: the first unit after the control region): the group's table,
//                       one 64-byte entry per unit
//   every other unit    part of a run of 2^class units that the entry of its first unit describes
//
// Thread safety: the structs overlay mapped memory that many processes share. Every field that changes after creation
// is atomic; docs/concurrency.md says who may write which word when. Invariants: every offset read from these structs
// is checked (file_view.h) before it is followed.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/fail_point.h"

namespace faultless::format {

static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free);
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "mapped words are little-endian; no byte swapping is built");

#ifdef FAULTLESS_FAIL_POINTS
using Word = FailPointAtomic<uint64_t>;
using HalfWord = FailPointAtomic<uint32_t>;
#else
using Word = std::atomic<uint64_t>;
using HalfWord = std::atomic<uint32_t>;
#endif

// ───────────────────────────────────────────────────────────── units, runs, groups

constexpr uint64_t kUnitBytes = 64 * 1024;
constexpr uint64_t kUnitsPerGroup = 1024;
constexpr uint32_t kMaxClass = 8;                // a run of 2^8 units is 16 MiB
constexpr uint32_t kMaxQueueClass = 4;           // queue extents and value runs: 1 MiB at most, but for
constexpr uint32_t kMaxExtentClass = kMaxClass;  // extents that a batch needs: what it has in a shard is in one of them
constexpr uint32_t kClasses = kMaxClass + 1;

enum class RunKind : uint8_t {
  kNone = 0,  // zeros (fresh or punched): nothing here; also units inside a run
  kFree = 1,
  kQueue = 2,      // an extent of a shard's queue of records
  kIndex = 3,      // four pieces of a shard's index
  kDirectory = 4,  // a directory too large for a piece
  kValue = 5,      // part of a large value
  kUse = 6,        // marks of use, of a store that evicts; scratch
};

/**
 * One cache line per unit in its group's table. Words 0 to 2 say what the run is and carry a check, so that a torn
 * entry shows; the rest is scratch that recovery does not read.
 */
struct alignas(64) TableEntry {
  Word identity;  // bits 0–7 kind, 8–15 class, 16–31 shard, 32–63 check over kind, class, shard, incarnation, sequence,
                  // unit
  Word incarnation;  // of this use of the run; never used twice in a file
  Word sequence;     // kQueue: position of the extent in its shard's queue, from 1
  Word next;  // kFree: next free run of the class; kQueue: next younger extent; kIndex: next unit of the shard; 0: none
  Word previous;  // kFree: previous free run of the class, kIndex: previous unit of the shard, 0: first; else: the unit
                  // itself while the run waits in limbo
  Word wasted_bytes;  // kQueue: at the end of the extent, where the next record did not fit; kIndex: free_pieces
  Word holes;  // of each 64th unit, whatever its run: bit i: unit + i may have no space, which is reserved before its
               // use
  Word free_links;  // kIndex: the units of the shard with as many free pieces; bits 0–31 the next one, 0: none; 32–63
                    // the previous one, 0: first

  /** kIndex: bit i is set while the i-th piece is free. */
  Word& free_pieces() { return wasted_bytes; }
  const Word& free_pieces() const { return wasted_bytes; }
};
constexpr uint64_t kUnitsPerHoleWord = 64;
static_assert(sizeof(TableEntry) == 64 && sizeof(TableEntry) * kUnitsPerGroup == kUnitBytes);

// ───────────────────────────────────────────────────────────── superblock

constexpr uint64_t kSuperblockBytes = 4096;
constexpr uint64_t kSuperblockMagic = 0x53'53'45'4C'54'4C'55'46;  // "FULTLESS" as bytes
constexpr uint32_t kFormatVersion = 1;

// Feature bits: a reader or writer that does not know a bit of the incompatible mask refuses the file; of the
// read-compatible mask: opens it read-only at most; of the compatible mask: ignores it.
constexpr uint64_t kKnownIncompatible = 0;
/** The store evicts: records before a shard's tail may be gone without a tombstone. */
constexpr uint64_t kReadCompatibleEvicts = 1;
constexpr uint64_t kKnownReadCompatible = kReadCompatibleEvicts;

enum class FileState : uint32_t { kClean = 1, kOpen = 2 };
enum class OnFull : uint32_t { kError = 0, kEvict = 1 };

struct Superblock {
  uint64_t magic;
  uint32_t version;
  uint32_t shard_count;  // power of two, 16 … 256
  uint64_t features_compatible;
  uint64_t features_read_compatible;
  uint64_t features_incompatible;
  uint64_t generation;  // the valid superblock with the higher one counts
  uint64_t store_id[2];
  uint64_t hash_seed[2];
  uint64_t max_bytes;
  uint64_t created_ms;
  uint32_t slots_per_shard;  // power of two
  uint32_t state;            // FileState
  uint32_t fixed_key_bytes;  // 0: lengths vary
  uint32_t fixed_value_bytes;
  uint32_t on_full;     // OnFull
  uint32_t uids;        // 0: none
  char codec[64];       // NUL-terminated
  uint64_t boot_id[2];  // state kOpen: of the boot in which it was opened first
  uint64_t inode;       // state kOpen: a copy has another one
  uint64_t device;
  uint64_t incarnation_base;  // every recovery moves it on by 2^40
  uint64_t born_ns;           // state kOpen: when the inode was made, or 0: an inode number may be used again
  uint64_t settled_batches;   // batches with lower numbers had happened as a whole when this was written
  uint8_t reserved[3852];
  uint32_t checksum;  // CRC-32C of all before
};
static_assert(sizeof(Superblock) == kSuperblockBytes);
static_assert(offsetof(Superblock, codec) == 120 && offsetof(Superblock, boot_id) == 184);

// ───────────────────────────────────────────────────────────── control region

constexpr uint64_t kControlOffset = 2 * kSuperblockBytes;
constexpr uint64_t kControlMagic = 0x31'4C'4F'52'54'4E'4F'43;  // "CONTROL1"
constexpr uint32_t kDefaultShards = 16;
constexpr uint32_t kVersionSlots = 65'536;  // of the whole store
constexpr uint32_t kOpenerSlots = 512;
constexpr uint32_t kPendingChains = 14;

/** One change of a word: (place, to). place is a file offset, a multiple of 8; bit 0 set: `count` words from there on,
 * count in the next op's place. */
struct IntentOp {
  Word place;
  Word value;
};
constexpr uint64_t kFillBit = 1;

/** A redo list. count ≠ 0: the change has been decided, and whoever holds the lock next applies the list again before
 * anything else. */
constexpr size_t kIntentOps = 222;
struct Intent {
  Word count;
  Word flags;  // kIntent… bits; bits 32–63: index of the version slot
  IntentOp ops[kIntentOps];
};
/** In `count`: the shard belongs to a batch under way; what ops there are is in the batch's list (ControlHeader). */
constexpr uint64_t kIntentOfBatch = uint64_t{1} << 63;
constexpr uint64_t kIntentSlot = 1;       // one version slot moves on
constexpr uint64_t kIntentStructure = 2;  // the structure version moves on
constexpr uint64_t kIntentAllSlots = 4;   // every version slot of the shard moves on

enum class ReadyState : uint32_t { kNotReady = 0, kReady = 1 };

struct alignas(64) ControlHeader {
  Word magic;
  HalfWord ready;           // ReadyState: written last by the opener that built or recovered this region
  HalfWord flush_poisoned;  // a sync failed: no later flush may succeed
  Word boot_id[2];          // in which `ready` was written
  Word inode;
  Word clock_watermark;  // the store's clock is not behind this: ms << 20 | check (store/clock.h)
  Word epoch;            // moves on when any version slot wraps
  Word recoveries;
  Word clock_offset;  // of the store's clock from the time since boot, in the boot of the check: ms << 20 | check
  uint8_t reserved_0[128 - 72];
  // A line of their own, which every writer looks at and few store to: who follows the changes (store/watch.h).
  HalfWord watch_sleepers;  // 1: somebody may sleep on watch_bell
  HalfWord watch_bell;      // moves on when something was committed and somebody slept
  Word watched_until_ms;    // until then, by the time since boot, what the engine drops by itself leaves tombstones
  Word clears;              // begun so far
  uint8_t reserved_1[192 - 128 - 24];
  // Batches.
  HalfWord batch_lock;  // one batch decides at a time, and none while a flush notes what it covers
  HalfWord reserved_lock;
  Word decided_batch;    // first unit of the list of a batch that has been decided and not done; 0: none
  Word next_batch;       // number of the next batch
  Word settled_batches;  // a completed flush covers all batches with lower numbers
  uint8_t reserved_2[4096 - 192 - 32];
};
static_assert(sizeof(ControlHeader) == 4096 && offsetof(ControlHeader, clock_watermark) == 40);
static_assert(offsetof(ControlHeader, watch_sleepers) == 128 && offsetof(ControlHeader, clears) == 144);
static_assert(offsetof(ControlHeader, batch_lock) == 192);

/**
 * A batch's redo list, in a run of its own: these words, then for each of its shards a BatchSection, then the slots of
 * all of them, then the ops (place, value) of all of them, by place within a shard. Words of private use to the batch's
 * holder; others read them once the batch is decided.
 */
struct BatchList {
  Word number;
  Word sections;
  Word slots;
  Word ops;
};
struct BatchSection {
  Word shard;
  Word slots;
  Word ops;
};
static_assert(sizeof(BatchList) == 32 && sizeof(BatchSection) == 24);

struct alignas(64) AllocatorControl {
  HalfWord lock;
  HalfWord flush_lock;   // one flush at a time
  Word published_units;  // reserved, mapped by everybody, safe to touch
  Word free_units;
  Word next_incarnation;
  Word limbo_open;     // runs released since the last flush began; linked by TableEntry::next
  Word limbo_closing;  // runs that the flush under way sets free
  Word limbo_units;
  Word flush_count;             // completed
  Word growing_from;            // units from here to published_units are on no list yet; 0: none such
  Word free_heads[kClasses];    // first free run of each class that has space in at least one of its units; 0: none
  Word hollow_units;            // of free_units: without space
  Word punches;                 // begun: what was locked into memory before may have left it
  Word hollow_heads[kClasses];  // first free run of each class without space in any unit; 0: none
  Word reserve_taken;  // 1: runs may have shared their blocks with another file, or had holes, when they were used
                       // last: the space of each is reserved when it is taken
  Word use_unit;       // the run that has the marks of use; 0: none yet. Never given back while the store is open
  uint8_t reserved[512 - 104 - 16 * kClasses];
  Intent intent;
  uint8_t reserved_end[16];
};
static_assert(sizeof(AllocatorControl) == 4096 && offsetof(AllocatorControl, use_unit) == 240);

struct alignas(64) OpenerSlot {
  HalfWord generation;  // moves on with each use of the slot
  HalfWord process_id;  // for people
};
static_assert(sizeof(OpenerSlot) == 64);

/** Chains of value runs that a write under way has taken and no record refers to yet; one line and a half per opener.
 */
struct alignas(64) OpenerPending {
  Word chains[kPendingChains + 2];  // the last two are reserved
};
static_assert(sizeof(OpenerPending) == 128);

/** A place of a shard's queue that a completed flush has promised, with the tail of then: all from the tail up to the
 * place was on the device. */
struct Promise {
  Word tail_sequence;
  Word sequence;
  Word position;  // 0: none
  Word check;     // keyed hash of the others and the shard's number: a torn promise is none
};

struct alignas(64) ShardControl {
  // Line 0: what every reader needs; changes with splits only.
  Word structure_version;  // odd while directory or segments change
  Word directory;          // (position >> 14) << 8 | depth; 0: the shard is empty
  uint8_t reserved_0[48];
  // Line 1: the queue.
  HalfWord lock;
  HalfWord reserved_lock;
  Word commits;   // odd while a change is applied; a snapshot of a segment validates against it
  Word head;      // where the next record goes; 0: no queue yet
  Word head_end;  // end of the head extent
  Word head_unit;
  Word head_sequence;
  Word tail;  // the oldest record
  Word tail_unit;
  // Line 2: counters.
  Word keys;
  Word live_bytes;         // of the records that the index refers to, value runs left out
  Word queue_bytes;        // of all extents of the queue
  Word value_bytes;        // of the value runs of live records
  Word entry_places;       // of the index
  Word flushed_sequence;   // extents up to this one may hold what a completed flush promised
  Word flushing_sequence;  // … what the flush under way promises
  Word tail_sequence;
  // Line 3: space.
  Word marked_tail_sequence;  // the youngest mark record says this
  Word next_head_unit;        // taken for the queue, not linked yet; 0: none
  Word retired_unit;          // unlinked from the queue, not released yet; 0: none
  Word merge_cursor;         // bits 0–23: the prefix where merging looks next; bit 24: its pages have been asked for;
                             // from 32 on: writes since the last look
  Word spare_index_unit;     // taken and on no chain yet, or off its chain and not released yet; 0: none
  Word index_units;          // chain of all units of the index
  Word dropped_index_units;  // chain of units that a clear left behind
  Word spare_directory_unit;  // a run taken for a directory, or one that a doubling left behind; 0: none
  // Line 4.
  Word clear_sequence;  // records before (clear_sequence, clear_position) are dead
  Word clear_position;
  Word had_runs;  // 1: a record with value runs has been appended at some time
  Word next_uid;  // for stores with uids
  Word uid_directory;
  Word spare_pieces[2];  // not free, not in the index yet; 0: none
  Word wasted_bytes;     // of all extents but the head's
  // Line 5.
  Word free_units[4];  // first unit of the index with 1, 2, 3, 4 free pieces; 0: none
  Word marked_end;     // where the youngest mark ends; after a recovery: where the queue does
  Word untold_drops;   // what the engine has dropped by itself and left no record of
  Word empty_clears;   // the youngest clear that found no queue here
  Word batches_end;    // 1 + number of the youngest batch that has records here, but for what a recovery found
  // Line 6: what the last completed flush promised, in one of them; the other is the one before, or half written.
  Promise promises[2];
  // Line 7: values that expire. All but the first are where a look through the queue stands (store/expiry_sweep.h).
  Word earliest_expiry_ms;  // nothing that lives expires before; 0: nothing expires
  Word sweep_unit;          // first unit of the extent; 0: no look is under way
  Word sweep_sequence;      // of the extent
  Word sweep_position;      // bit 0: what follows has been asked for
  Word sweep_earliest_ms;   // of what this look has passed; 0: nothing expires
  Word evicted_sequence;    // the youngest extent of which a record was evicted without a tombstone; 0: none
  Word evictions;           // so far
  uint8_t reserved_3[512 - 7 * 64 - 56];
  Intent intent;
  uint8_t reserved_end[16];
};
static_assert(sizeof(ShardControl) == 4096 && offsetof(ShardControl, lock) == 64);
static_assert(offsetof(ShardControl, keys) == 128 && offsetof(ShardControl, marked_tail_sequence) == 192);
static_assert(offsetof(ShardControl, free_units) == 320 && offsetof(ShardControl, promises) == 384);
static_assert(offsetof(ShardControl, earliest_expiry_ms) == 448 && offsetof(ShardControl, untold_drops) == 360);
static_assert(offsetof(ShardControl, intent) == 512);

constexpr uint64_t kAllocatorOffset = kControlOffset + sizeof(ControlHeader);
constexpr uint64_t kOpenersOffset = kAllocatorOffset + sizeof(AllocatorControl);
constexpr uint64_t kPendingOffset = kOpenersOffset + kOpenerSlots * sizeof(OpenerSlot);
constexpr uint64_t kShardsOffset = kPendingOffset + kOpenerSlots * sizeof(OpenerPending);

constexpr uint64_t VersionsOffset(uint32_t shard_count) { return kShardsOffset + shard_count * sizeof(ShardControl); }
constexpr uint64_t ControlEnd(uint32_t shard_count) {
  return VersionsOffset(shard_count) + kVersionSlots * sizeof(HalfWord);
}
/** Units before the first group's table. */
constexpr uint64_t HeadUnits(uint32_t shard_count) { return (ControlEnd(shard_count) + kUnitBytes - 1) / kUnitBytes; }
static_assert(kShardsOffset % 4096 == 0 && ControlEnd(kDefaultShards) % 4096 == 0);

constexpr uint32_t kFirstVersion = 2;

// Lock words: bits 0–9 opener slot + 1, 10–30 its generation, 31 somebody waits; 0: free.
constexpr uint32_t kLockWaiters = uint32_t{1} << 31;
constexpr uint32_t kLockSlotBits = 10;
constexpr uint32_t kLockGenerationMask = (uint32_t{1} << 21) - 1;

// Bytes whose locks (os::TryLockByte) mean something; far behind any file's end.
constexpr uint64_t kGateByte = uint64_t{1} << 62;  // exclusive: creating, recovering, opening, closing
constexpr uint64_t kUsersByte = kGateByte + 1;     // shared: by each process that has the store open
constexpr uint64_t kWritersByte = kGateByte + 2;   // shared: by those of them that may write
constexpr uint64_t kPrivateByte =
    kGateByte + 3;  // shared: by readers to whom the file must not change (private_storage.h)
constexpr uint64_t kOpenerBytes = kGateByte + 16;  // + slot, exclusive: this slot's process lives

// ───────────────────────────────────────────────────────────── index

constexpr uint64_t kPieceBytes = 16 * 1024;  // a segment, or a small directory
constexpr uint32_t kPiecesPerUnit = kUnitBytes / kPieceBytes;
constexpr uint64_t kAllPieces = (uint64_t{1} << kPiecesPerUnit) - 1;
static_assert(sizeof(ShardControl::free_units) == kPiecesPerUnit * sizeof(Word));
constexpr uint32_t kLinesPerSegment = 256;
constexpr uint32_t kEntriesPerLine = 5;
constexpr uint32_t kEntriesPerSegment = kLinesPerSegment * kEntriesPerLine;
constexpr uint32_t kMaxProbeLines = 32;    // a search
constexpr uint32_t kInsertProbeLines = 8;  // an insertion; then the segment is split
constexpr uint32_t kDirectoryBits = 24;
constexpr uint32_t kMaxDirectoryDepth = 21;    // 2^21 words are a run of 16 MiB, the largest
constexpr uint32_t kPieceDirectoryDepth = 11;  // 2^11 words fill a piece

/**
 * A cache line of a segment. words[0] bits 0–31: how many entries whose home is this line or an earlier one went past
 * it; then the tags of entries 0 … 4, 32 bits each; then their places. place: bits 48–63 fingerprint, 0–47 position of
 * the record >> 3; 0: empty
 */
struct alignas(64) IndexLine {
  Word words[8];
};
static_assert(sizeof(IndexLine) * kLinesPerSegment == kPieceBytes);

// The 64-bit hash of a key, from the top: shard (4 … 8 bits, of 56–63), directory (32–55), line (24–31), fingerprint
// (8–23).
constexpr uint32_t TagOf(uint64_t hash) { return static_cast<uint32_t>(hash >> 24); }
constexpr uint64_t FingerprintOf(uint64_t hash) { return (hash >> 8) & 0xFFFF; }
constexpr uint32_t LineOf(uint32_t tag) { return tag & 0xFF; }
constexpr uint32_t DirectoryBitsOf(uint32_t tag) { return tag >> 8; }
constexpr uint64_t PlaceOf(uint64_t fingerprint, uint64_t position) { return fingerprint << 48 | position >> 3; }
constexpr uint64_t PositionOf(uint64_t place) { return (place & 0xFFFF'FFFF'FFFF) << 3; }
constexpr uint64_t FingerprintOfPlace(uint64_t place) { return place >> 48; }

// ───────────────────────────────────────────────────────────── records

enum class RecordKind : uint8_t {
  kNone = 0,  // zeros: no record
  kSet = 1,
  kTombstone = 2,
  kMark = 3,   // value: a MarkValue: older extents of the shard count for nothing
  kClear = 4,  // everything before it in the shard is dead
  kBatch = 5,  // value: a BatchValue: before and behind what a batch has in the shard
  kEnd = 6,    // nothing more in this extent (implied where less than a header is left)
};
constexpr uint8_t kRecordExpires = 1;  // an expiry word follows the header
constexpr uint8_t kRecordUid = 2;      // a uid word follows
constexpr uint8_t kRecordLarge = 4;    // a LargeHeader and its runs follow
constexpr uint8_t kRecordMoved = 8;    // re-appended by cleaning, or with another expiry: the same value
constexpr uint8_t kRecordReasonShift =
    4;  // tombstones: 0 deleted, 1 expired, 2 evicted, 3 nothing was there (bits 4–5)
constexpr uint8_t kReasonExpired = 1;
constexpr uint8_t kReasonEvicted = 2;
constexpr uint8_t kReasonAbsent = 3;
constexpr uint8_t kReasonMask = 3;
constexpr uint8_t kRecordAfterExpiry = 64;  // a set: what it replaced had expired, and nothing has told of that

/** 16 bytes before every record; records are multiples of 8 bytes and lie within one extent. */
struct RecordHeader {
  uint32_t length;  // of the whole record; the low 3 bits: how many bytes of padding end it
  uint16_t key_length;
  uint8_t kind;
  uint8_t flags;
  uint32_t checksum;  // CRC-32C of the record with checksum and seal as zeros
  uint32_t seal;      // of checksum, position and the extent's incarnation, keyed by the hash seed
};
static_assert(sizeof(RecordHeader) == 16);

/** What a mark says: where the queue begins, and what the last flush that had completed by then had promised. */
struct MarkValue {
  uint64_t tail_sequence;
  uint64_t promised_tail_sequence;
  uint64_t promised_sequence;
  uint64_t promised_position;  // 0: nothing
  uint64_t settled_batches;    // flushes that had completed by then cover all batches with lower numbers
};
static_assert(sizeof(MarkValue) == 40);

/** What stands before and behind the records that a batch has in one shard. */
struct BatchValue {
  uint64_t number;  // of the batch, never used twice in a file
  uint32_t shards;  // in which the batch has records
  uint32_t is_end;  // 0: they follow; 1: those were all
};
static_assert(sizeof(BatchValue) == 16);

/** What a clear says. */
struct ClearValue {
  uint64_t number;  // of the clear, the same in all shards, from 1; ControlHeader::clears
  uint64_t owner;   // the opener that clears, as in a lock word
};
static_assert(sizeof(ClearValue) == 16);

struct LargeHeader {
  uint64_t run_bytes;  // of the value, in the runs; the rest of the value follows the key in the record
  uint32_t run_count;
  uint32_t value_checksum;  // CRC-32C of the bytes in the runs
};
struct RunReference {
  uint32_t unit;
  uint32_t size_class;
  uint64_t incarnation;
};
static_assert(sizeof(LargeHeader) == 16 && sizeof(RunReference) == 16);

constexpr uint64_t kLargeValueBytes = kUnitBytes;  // values from here on keep their whole units in runs
constexpr uint64_t kMaxRuns = (uint64_t{1} << 32) / (kUnitBytes << kMaxQueueClass) + kMaxQueueClass;
constexpr uint64_t kMaxRecordBytes =
    sizeof(RecordHeader) + 16 + sizeof(LargeHeader) + kMaxRuns * sizeof(RunReference) + 65'535 + kLargeValueBytes + 8;
static_assert(kMaxRecordBytes <= (kUnitBytes << kMaxQueueClass) / 4);

}  // namespace faultless::format
