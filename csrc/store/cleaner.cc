#include "store/cleaner.h"

#include <cstring>
#include <vector>

#include "base/hash.h"
#include "store/clock.h"
#include "store/eviction.h"
#include "store/index.h"
#include "store/record_queue.h"
#include "store/watch_bell.h"

namespace faultless::store {
namespace {

using format::RecordKind;
using format::ShardControl;

constexpr auto kRelaxed = std::memory_order_relaxed;
/** Garbage of a shard that is let stand in addition while somebody watches the store. */
constexpr uint64_t kWatchedBytes = 128 * 1024;

bool IsBeforeClear(const ShardControl& shard) {
  const uint64_t sequence = shard.tail_sequence.load(kRelaxed);
  const uint64_t clear_sequence = shard.clear_sequence.load(kRelaxed);
  return sequence < clear_sequence ||
         (sequence == clear_sequence && shard.tail.load(kRelaxed) < shard.clear_position.load(kRelaxed));
}

/**
 * Whether a batch begins here that no completed flush covers: after a power cut all that it has, in every shard, must
 * be found where it was, or the batch counts for nothing.
 */
bool IsUnsettledBatch(const Context& context, const format::RecordView& record) {
  format::BatchValue batch;
  if (record.kind != RecordKind::kBatch || record.value.size() != sizeof batch) return false;
  std::memcpy(&batch, record.value.data(), sizeof batch);
  return batch.number >= context.header().settled_batches.load(std::memory_order_acquire);
}

/** Appends the live record at the tail again. Its bytes are in the read scratch. */
Status MoveRecord(const Context& context, uint32_t shard_index, uint64_t hash, const IndexHit& hit,
                  const format::RecordView& record, uint64_t bytes, Purpose purpose) {
  ShardControl& shard = context.shard(shard_index);
  FAULTLESS_TRY(EnsureRoom(context, shard_index, bytes, purpose));
  format::RecordView moved = record;
  moved.flags |= format::kRecordMoved;
  uint8_t* const scratch = RecordScratch(Scratch::kWrite, bytes);
  format::EncodeRecord(moved, scratch);
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  const uint64_t position = Append(context, shard_index, scratch, bytes, &transaction);
  SwitchEntry(context, &transaction, hit, format::FingerprintOf(hash), position);
  transaction.MoveSlot(context.SlotOfHash(hash));
  transaction.Set(shard.tail, shard.tail.load(kRelaxed) + bytes);
  return transaction.Commit();
}

/**
 * Releases the value runs of a dead record at the tail, unless a younger record of the key refers to them as well:
 * after a recovery the tail stands before records that have been moved already. The record is in the read scratch,
 * which is reused.
 */
Status ReleaseRunsOfDead(const Context& context, uint32_t shard_index, uint64_t hash,
                         const format::RecordView& record) {
  const std::vector<format::RunReference> runs(record.runs.begin(), record.runs.end());
  const std::vector<uint8_t> key(record.key.begin(), record.key.end());
  const bool promised = AreRunsPromised(context, shard_index, context.shard(shard_index).tail.load(kRelaxed), record);
  bool shared = false;
  const Status probed = Probe({context}, context.shard(shard_index), format::TagOf(hash), format::FingerprintOf(hash),
                              NeverStop, [&](const IndexHit& hit) -> Status {
                                format::RecordView live;
                                uint64_t bytes;
                                FAULTLESS_TRY(ReadRecordAt(context, hit.position, &live, &bytes));
                                if (live.runs.empty() || live.key.size() != key.size()) return Code::kAbsent;
                                if (std::memcmp(live.key.data(), key.data(), key.size()) != 0) return Code::kAbsent;
                                shared = live.runs.front().incarnation == runs.front().incarnation;
                                return Code::kOk;
                              });
  if (!probed.ok() && probed.code() != Code::kAbsent) return probed;
  return shared ? Status() : ReleaseRuns(context, runs, promised);
}

}  // namespace

Status FindEntryOf(const Context& context, uint32_t shard_index, uint64_t hash, uint64_t position, IndexHit* hit) {
  return Probe({context}, context.shard(shard_index), format::TagOf(hash), format::FingerprintOf(hash), NeverStop,
               [&](const IndexHit& found) -> Status {
                 if (found.position != position) return Code::kAbsent;
                 *hit = found;
                 return Code::kOk;
               });
}

Status DropRecord(const Context& context, uint32_t shard_index, const IndexHit& hit, const format::RecordView& record,
                  const Drop& drop) {
  ShardControl& shard = context.shard(shard_index);
  format::RecordView tombstone;
  tombstone.kind = RecordKind::kTombstone;
  tombstone.flags = static_cast<uint8_t>(drop.reason << format::kRecordReasonShift);
  tombstone.key = record.key;
  const uint64_t tombstone_bytes = format::RecordBytes(tombstone);
  const bool needs_tombstone = !record.runs.empty();
  bool leaves_tombstone = needs_tombstone || IsWatched(context);
  if (leaves_tombstone) {
    const Status room = EnsureRoom(context, shard_index, tombstone_bytes, Purpose::kReserve);
    if (!room.ok() && (needs_tombstone || !IsOutOfSpace(room))) return room;
    leaves_tombstone = room.ok();
  }
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  if (leaves_tombstone) {
    uint8_t* const scratch = RecordScratch(Scratch::kWrite, tombstone_bytes);
    format::EncodeRecord(tombstone, scratch);
    Append(context, shard_index, scratch, tombstone_bytes, &transaction);
  } else {
    transaction.Add(shard.untold_drops, 1);
  }
  RemoveEntry(context, &transaction, hit);
  transaction.MoveSlot(context.SlotOfHash(drop.hash));
  transaction.Add(shard.keys, -1);
  transaction.Add(shard.live_bytes, -static_cast<int64_t>(drop.bytes));
  transaction.Add(shard.value_bytes, -static_cast<int64_t>(record.large.run_bytes));
  if (drop.reason == format::kReasonEvicted) {
    transaction.Add(shard.evictions, 1);
    if (!needs_tombstone) PassEvicted(context, shard_index, drop.bytes, &transaction);
  }
  return transaction.Commit();
}

uint64_t GarbageBytes(const Context& context, uint32_t shard_index) {
  const ShardControl& shard = context.shard(shard_index);
  // Words of different moments where the lock is not held: an estimate then, never below 0.
  const uint64_t all = shard.queue_bytes.load(kRelaxed);
  const uint64_t free_at_head = shard.head_end.load(kRelaxed) - shard.head.load(kRelaxed);
  const uint64_t left_behind = shard.tail.load(kRelaxed) - shard.tail_unit.load(kRelaxed) * format::kUnitBytes;
  const uint64_t other =
      shard.live_bytes.load(kRelaxed) + free_at_head + left_behind + shard.wasted_bytes.load(kRelaxed);
  return all > other ? all - other : 0;
}

bool HasCleared(const Context& context, uint32_t shard_index) {
  const ShardControl& shard = context.shard(shard_index);
  return shard.head.load(kRelaxed) != 0 && IsBeforeClear(shard);
}

bool NeedsCleaning(const Context& context, uint32_t shard_index) {
  const ShardControl& shard = context.shard(shard_index);
  if (HasCleared(context, shard_index)) return true;
  if (shard.tail_unit.load(kRelaxed) == shard.head_unit.load(kRelaxed)) return false;
  const uint64_t live = shard.live_bytes.load(kRelaxed);
  // What the ends of extents waste is part of what the file may be too large by.
  const uint64_t wasted = std::min(shard.wasted_bytes.load(kRelaxed), live / 8 * 3);
  const uint64_t garbage = GarbageBytes(context, shard_index);
  const uint64_t allowed = live / 8 * 5 - wasted + format::kUnitBytes / 4;
  if (garbage <= allowed) return false;
  // Of a small shard that would leave a handful of records to who watches: less than they need to look once.
  return garbage > allowed + kWatchedBytes || !IsWatched(context);
}

Status Clean(const Context& context, uint32_t shard_index, CleaningBudget budget, uint32_t* left_extents) {
  ShardControl& shard = context.shard(shard_index);
  *left_extents = 0;
  const bool evicts = budget.evicted_bytes > 0;
  FAULTLESS_TRY(ReleaseRetired(context, shard_index));
  while (budget.scanned_records > 0 && budget.moved_records > 0 && budget.moved_bytes > 0 &&
         (!evicts || budget.evicted_bytes > 0)) {
    budget.scanned_records--;
    const uint64_t unit = shard.tail_unit.load(kRelaxed);
    if (unit == 0) return Code::kOk;
    // Of the head extent only what a clear has killed is visited.
    if (unit == shard.head_unit.load(kRelaxed) && !IsBeforeClear(shard)) return Code::kOk;
    format::EntryView extent;
    if (!ReadRun(context, unit, format::RunKind::kQueue, &extent) || extent.shard != shard_index ||
        extent.sequence != shard.tail_sequence.load(kRelaxed)) {
      return Status::Corrupt("the tail extent is none", context.OffsetOf(&shard.tail_unit));
    }
    const uint64_t tail = shard.tail.load(kRelaxed);
    const uint64_t begin = unit * format::kUnitBytes;
    const uint64_t end = begin + RunBytes(extent.size_class);
    if (tail % 8 != 0 || tail < begin || tail > end)
      return Status::Corrupt("the tail is damaged", context.OffsetOf(&shard.tail));
    // A clear killed the whole extent, and nothing of it owns space elsewhere, or is part of a batch that must stay.
    bool leave = shard.tail_sequence.load(kRelaxed) < shard.clear_sequence.load(kRelaxed) &&
                 shard.had_runs.load(kRelaxed) == 0 &&
                 shard.batches_end.load(kRelaxed) <= context.header().settled_batches.load(std::memory_order_acquire);
    leave = leave || end - tail < sizeof(format::RecordHeader);
    if (!leave) leave = format::RecordKindOf(context.WordAt(tail).load(kRelaxed)) == RecordKind::kEnd;
    if (leave) {
      bool moved;
      FAULTLESS_TRY(LeaveTailExtent(context, shard_index, &moved));
      if (moved) ++*left_extents;
      continue;
    }
    format::RecordView record;
    uint64_t bytes;
    FAULTLESS_TRY(ReadRecordAt(context, tail, &record, &bytes));
    if (end - tail < bytes) return Status::Corrupt("a record crosses the end of its extent", tail);
    if (IsUnsettledBatch(context, record)) {
      context.hints[shard_index].held_up.store(true, kRelaxed);
      return Code::kOk;
    }
    if (record.kind != RecordKind::kSet) {
      shard.tail.store(tail + bytes, std::memory_order_release);
      continue;
    }
    const uint64_t hash = HashBytes(record.key.data(), record.key.size(), context.superblock.hash_seed);
    IndexHit hit;
    Status found = Code::kAbsent;
    if (!IsBeforeClear(shard)) found = FindEntryOf(context, shard_index, hash, tail, &hit);
    if (found.code() == Code::kAbsent) {
      if (!record.runs.empty()) FAULTLESS_TRY(ReleaseRunsOfDead(context, shard_index, hash, record));
      if (evicts) NoteDead(context, shard_index, bytes);
      shard.tail.store(tail + bytes, std::memory_order_release);
      continue;
    }
    FAULTLESS_TRY(found);
    // What cannot be trusted is not spread: the record stays where it is, and so does everything younger.
    if (!format::VerifyChecksum({RecordScratch(Scratch::kRead, bytes), bytes})) {
      return Status::Corrupt("a record's checksum does not match", tail);
    }
    if (IsExpired(context, record)) {
      FAULTLESS_TRY(DropRecord(context, shard_index, hit, record, {hash, bytes, format::kReasonExpired}));
      continue;  // the next turn finds it dead
    }
    bool evict = evicts && IsToBeEvicted(context, shard_index, hash, bytes);
    if (!evict) {
      const Status moved = MoveRecord(context, shard_index, hash, hit, record, bytes, budget.purpose);
      evict = evicts && (moved.code() == Code::kStoreFull || moved.code() == Code::kNoSpace);
      if (!evict) FAULTLESS_TRY(moved);
    }
    if (evict) {
      FAULTLESS_TRY(DropRecord(context, shard_index, hit, record, {hash, bytes, format::kReasonEvicted}));
      budget.evicted_bytes -= std::min(budget.evicted_bytes, bytes + record.large.run_bytes);
      continue;
    }
    budget.moved_records--;
    budget.moved_bytes -= std::min(budget.moved_bytes, bytes);
  }
  return Code::kOk;
}

}  // namespace faultless::store
