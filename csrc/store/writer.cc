#include "store/writer.h"

#include "base/hash.h"
#include "os/os.h"
#include "store/cleaner.h"
#include "store/flush.h"
#include "store/index.h"
#include "store/large_value.h"
#include "store/lock.h"
#include "store/record_queue.h"

namespace faultless::store {
namespace {

using format::RecordKind;
using format::ShardControl;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr CleaningBudget kCleaningForSpace{4096, 1024, 4 << 20};

Status Nothing(uint64_t, uint64_t) { return Code::kOk; }

/** The entry of this key, or kAbsent. */
Status FindKey(const Context& context, uint32_t shard_index, uint64_t hash, Bytes key, IndexHit* hit,
               RecordFacts* facts) {
  return Probe({context}, context.shard(shard_index), format::TagOf(hash), format::FingerprintOf(hash), Nothing,
               [&](const IndexHit& found) -> Status {
                 const Status status = MatchKey(context, found.position, key, facts);
                 if (status.ok()) *hit = found;
                 return status;
               });
}

/** Brings the key's index line and record into memory while no lock is held. What it finds is not believed. */
void Touch(const Context& context, uint32_t shard_index, uint64_t hash, Bytes key) {
  IndexHit hit;
  RecordFacts facts;
  static_cast<void>(FindKey(context, shard_index, hash, key, &hit, &facts));
}

/** An empty place for a key that is not there, splitting segments until there is one. */
Status MakePlace(const Context& context, uint32_t shard_index, uint32_t tag, IndexHit* hit) {
  const ShardControl& shard = context.shard(shard_index);
  if (shard.directory.load(kRelaxed) == 0) FAULTLESS_TRY(CreateIndex(context, shard_index));
  while (true) {
    const Status status = FindEmptyPlace(context, shard_index, tag, hit);
    if (status.code() != Code::kAbsent) return status;
    FAULTLESS_TRY(SplitSegment(context, shard_index, tag));
  }
}

/** The value runs of the record at `position`, which the caller is about to replace, and whether a flush promised them.
 * Copies: the scratch is reused. */
Status RunsOf(const Context& context, uint32_t shard_index, uint64_t position, std::vector<format::RunReference>* runs,
              bool* promised) {
  format::RecordView record;
  uint64_t bytes;
  FAULTLESS_TRY(ReadRecordAt(context, position, &record, &bytes));
  runs->assign(record.runs.begin(), record.runs.end());
  *promised = AreRunsPromised(context, shard_index, position, record);
  return Code::kOk;
}

/** The cleaning that every write pays for. A failure of it is no failure of the write. */
void PayForCleaning(const Context& context, uint32_t shard_index) {
  uint32_t left;
  if (NeedsCleaning(context, shard_index)) static_cast<void>(Clean(context, shard_index, kCleaningPerWrite, &left));
  static_cast<void>(ReleaseDroppedIndex(context, shard_index));
}

/** Pages that a fault has replaced would take stores that get lost: no write before they are back. */
Status RequireRealPages(const Context& context) {
  if (context.storage->HasSubstitutes() && context.storage->Restore() > 0) {
    return {Code::kIo, "part of the file cannot be read"};
  }
  return Code::kOk;
}

/** Whether cleaning this shard is worth it. Deletes must get through, whatever has to be moved for that. */
bool IsWorthCleaning(const Context& context, uint32_t shard_index, Purpose purpose) {
  const ShardControl& shard = context.shard(shard_index);
  if (HasCleared(context, shard_index)) return true;
  const uint64_t tail_unit = shard.tail_unit.load(kRelaxed);
  format::EntryView tail;
  if (tail_unit == shard.head_unit.load(kRelaxed) || !ReadRun(context, tail_unit, format::RunKind::kQueue, &tail))
    return false;
  const uint64_t garbage = GarbageBytes(context, shard_index);
  if (purpose == Purpose::kReserve) {
    // What lives in the oldest extent must fit behind the head, or nothing is gained.
    const uint64_t free_at_head = shard.head_end.load(kRelaxed) - shard.head.load(kRelaxed);
    return garbage > 0 && garbage + free_at_head >= RunBytes(tail.size_class);
  }
  // A store that is full of live records stays full: what there is to gain must be worth what has to be moved for it.
  return garbage >= format::kUnitBytes / 4 && garbage >= shard.live_bytes.load(kRelaxed) / 8;
}

/** One bounded step towards more room in a full store. False in *progress: there is nothing left to give back. */
Status MakeRoom(Context& context, uint32_t preferred_shard, Purpose purpose, bool* progress) {
  *progress = false;
  for (uint32_t i = 0; i < context.shards(); i++) {
    const uint32_t shard_index = (preferred_shard + i) % context.shards();
    if (!IsWorthCleaning(context, shard_index, purpose)) continue;
    const ShardLock lock(context, shard_index);
    if (lock.status().code() == Code::kWouldBlock) continue;
    FAULTLESS_TRY(lock.status());
    uint32_t left = 0;
    if (!Clean(context, shard_index, kCleaningForSpace, &left).ok())
      continue;  // damage there is no fault of this write
    *progress = true;
    if (left > 0) break;
  }
  // A counter that lies must not make a write flush for ever: only what has come back counts.
  const uint64_t limbo = context.allocator().limbo_units.load(kRelaxed);
  if (limbo > 0 && TryFlush(context).ok() && context.allocator().limbo_units.load(kRelaxed) < limbo) *progress = true;
  return Code::kOk;
}

Status TrySet(Context& context, uint64_t hash, Bytes key, Bytes value, const WriteOptions& options) {
  const uint32_t shard_index = context.ShardOfHash(hash);
  ShardControl& shard = context.shard(shard_index);
  LargeValueWriter large(context);
  format::RecordView record;
  record.kind = RecordKind::kSet;
  record.key = key;
  record.value = value;
  if (options.expires_at_ms != 0) {
    record.flags |= format::kRecordExpires;
    record.expires_at_ms = options.expires_at_ms;
  }
  if (value.size() >= format::kLargeValueBytes) {
    FAULTLESS_TRY(large.Write(value, shard_index));
    large.Describe(value, &record);
  }
  const uint64_t bytes = format::RecordBytes(record);
  FAULTLESS_TRY(PrefaultHead(context, shard_index, bytes));
  Touch(context, shard_index, hash, key);

  const ShardLock lock(context, shard_index);
  FAULTLESS_TRY(lock.status());
  FAULTLESS_TRY(EnsureRoom(context, shard_index, bytes, Purpose::kUser));
  const uint64_t changes_before = context.storage->SubstituteChanges();
  IndexHit hit;
  RecordFacts old;
  Status found = FindKey(context, shard_index, hash, key, &hit, &old);
  const bool replaces = found.ok();
  if (found.code() == Code::kAbsent) {
    FAULTLESS_TRY(MakePlace(context, shard_index, format::TagOf(hash), &hit));
  } else {
    FAULTLESS_TRY(found);
  }
  std::vector<format::RunReference> old_runs;
  bool old_promised = false;
  if (replaces && old.run_bytes != 0) {
    FAULTLESS_TRY(RunsOf(context, shard_index, hit.position, &old_runs, &old_promised));
  }
  uint8_t* const scratch = RecordScratch(Scratch::kWrite, bytes);
  format::EncodeRecord(record, scratch);
  if (context.storage->SubstituteChanges() != changes_before) return Code::kWouldBlock;  // what was found may be zeros

  Transaction transaction(context, &shard.intent, &shard, shard_index);
  const uint64_t position = Append(context, shard_index, scratch, bytes, &transaction);
  if (replaces) {
    SwitchEntry(context, &transaction, hit, format::FingerprintOf(hash), position);
  } else {
    InsertEntry(context, &transaction, hit, format::TagOf(hash), format::FingerprintOf(hash), position);
    transaction.Add(shard.keys, 1);
  }
  transaction.Add(shard.live_bytes, static_cast<int64_t>(bytes - (replaces ? old.bytes : 0)));
  if (record.large.run_bytes != 0 || old.run_bytes != 0) {
    transaction.Add(shard.value_bytes, static_cast<int64_t>(record.large.run_bytes - (replaces ? old.run_bytes : 0)));
  }
  if (record.large.run_bytes != 0) transaction.Set(shard.had_runs, 1);
  large.TakeOver(&transaction);
  transaction.MoveSlot(context.SlotOfHash(hash));
  const Status committed = transaction.Commit();
  // A commit that failed may have been decided all the same: whoever locks next finishes it.
  if (committed.ok() || shard.intent.count.load(kRelaxed) != 0) large.Taken();
  FAULTLESS_TRY(committed);
  // What a release that fails here leaves behind is found again when the old record is cleaned.
  if (!old_runs.empty()) static_cast<void>(ReleaseRuns(context, old_runs, old_promised));
  PayForCleaning(context, shard_index);
  return Code::kOk;
}

Status TryDelete(Context& context, uint64_t hash, Bytes key, bool* existed) {
  const uint32_t shard_index = context.ShardOfHash(hash);
  ShardControl& shard = context.shard(shard_index);
  *existed = false;
  Touch(context, shard_index, hash, key);
  const ShardLock lock(context, shard_index);
  FAULTLESS_TRY(lock.status());
  const uint64_t changes_before = context.storage->SubstituteChanges();
  IndexHit hit;
  RecordFacts old;
  const Status found = FindKey(context, shard_index, hash, key, &hit, &old);
  if (context.storage->HasSubstitutes()) return {Code::kIo, "part of the file cannot be read"};
  if (context.storage->SubstituteChanges() != changes_before) return Code::kWouldBlock;
  if (found.code() == Code::kAbsent) return Code::kOk;
  FAULTLESS_TRY(found);
  format::RecordView tombstone;
  tombstone.kind = RecordKind::kTombstone;
  tombstone.key = key;
  const uint64_t bytes = format::RecordBytes(tombstone);
  FAULTLESS_TRY(EnsureRoom(context, shard_index, bytes, Purpose::kReserve));
  std::vector<format::RunReference> old_runs;
  bool old_promised = false;
  if (old.run_bytes != 0) {
    FAULTLESS_TRY(RunsOf(context, shard_index, hit.position, &old_runs, &old_promised));
  }
  uint8_t* const scratch = RecordScratch(Scratch::kWrite, bytes);
  format::EncodeRecord(tombstone, scratch);
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  Append(context, shard_index, scratch, bytes, &transaction);
  RemoveEntry(context, &transaction, hit);
  transaction.Add(shard.keys, -1);
  transaction.Add(shard.live_bytes, -static_cast<int64_t>(old.bytes));
  if (old.run_bytes != 0) transaction.Add(shard.value_bytes, -static_cast<int64_t>(old.run_bytes));
  transaction.MoveSlot(context.SlotOfHash(hash));
  FAULTLESS_TRY(transaction.Commit());
  *existed = old.expires_at_ms == 0 || old.expires_at_ms > os::WallClockMs();
  // What a release that fails here leaves behind is found again when the old record is cleaned.
  if (!old_runs.empty()) static_cast<void>(ReleaseRuns(context, old_runs, old_promised));
  PayForCleaning(context, shard_index);
  return Code::kOk;
}

/** Runs `attempt` again as long as a full store can be given more room. */
template <typename Attempt>
Status WithRoom(Context& context, uint64_t hash, Purpose purpose, const Attempt& attempt) {
  FAULTLESS_TRY(RequireRealPages(context));
  constexpr int kAttempts = 1000;
  for (int i = 0;; i++) {
    const Status status = attempt();
    if (status.code() != Code::kStoreFull || i == kAttempts) return status;
    bool progress;
    FAULTLESS_TRY(MakeRoom(context, context.ShardOfHash(hash), purpose, &progress));
    if (!progress) return status;
  }
}

Status CheckWrite(const Context& context, Bytes key, uint64_t value_bytes) {
  if (context.read_only) return Code::kReadOnly;
  if (key.empty()) return Code::kKeyEmpty;
  if (key.size() > kMaxKeyBytes) return Code::kKeyTooLong;
  if (value_bytes > kMaxValueBytes) return Code::kValueTooLarge;
  return Code::kOk;
}

}  // namespace

Status SetRecord(Context& context, Bytes key, Bytes value, const WriteOptions& options) {
  FAULTLESS_TRY(CheckWrite(context, key, value.size()));
  const uint64_t hash = HashBytes(key.data(), key.size(), context.superblock.hash_seed);
  FAULTLESS_TRY(WithRoom(context, hash, Purpose::kUser, [&] { return TrySet(context, hash, key, value, options); }));
  FlushWhereLimboIsLarge(context);
  return Code::kOk;
}

Status DeleteRecord(Context& context, Bytes key, bool* existed) {
  FAULTLESS_TRY(CheckWrite(context, key, 0));
  const uint64_t hash = HashBytes(key.data(), key.size(), context.superblock.hash_seed);
  FAULTLESS_TRY(WithRoom(context, hash, Purpose::kReserve, [&] { return TryDelete(context, hash, key, existed); }));
  FlushWhereLimboIsLarge(context);
  return Code::kOk;
}

Status ClearShard(Context& context, uint32_t shard_index) {
  if (context.read_only) return Code::kReadOnly;
  FAULTLESS_TRY(RequireRealPages(context));
  ShardControl& shard = context.shard(shard_index);
  while (shard.dropped_index_units.load(std::memory_order_acquire) != 0) {
    const ShardLock lock(context, shard_index);
    FAULTLESS_TRY(lock.status());
    for (int i = 0; i < 64; i++) FAULTLESS_TRY(ReleaseDroppedIndex(context, shard_index));
  }
  const ShardLock lock(context, shard_index);
  FAULTLESS_TRY(lock.status());
  if (shard.head.load(kRelaxed) == 0) return Code::kOk;
  if (shard.dropped_index_units.load(kRelaxed) != 0) return Code::kWouldBlock;  // another clear came in between
  format::RecordView clear;
  clear.kind = RecordKind::kClear;
  alignas(8) uint8_t scratch[sizeof(format::RecordHeader)];
  format::EncodeRecord(clear, scratch);
  FAULTLESS_TRY(EnsureRoom(context, shard_index, sizeof scratch, Purpose::kReserve));
  const uint64_t directory = shard.directory.load(kRelaxed);
  const bool own_run = directory != 0 && (directory & 0xFF) > format::kPieceDirectoryDepth;
  if (own_run && shard.spare_directory_unit.load(kRelaxed) != 0) {
    FAULTLESS_TRY(FreeRun(context, shard.spare_directory_unit.load(kRelaxed), {format::RunKind::kDirectory},
                          &shard.spare_directory_unit));
  }
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  const uint64_t position = Append(context, shard_index, scratch, sizeof scratch, &transaction);
  transaction.MoveStructure();
  transaction.MoveAllSlots();
  if (own_run) transaction.Set(shard.spare_directory_unit, UnitOf((directory >> 8) * format::kPieceBytes));
  transaction.Set(shard.directory, 0);
  transaction.Set(shard.dropped_index_units, shard.index_units.load(kRelaxed));
  transaction.Set(shard.index_units, 0);
  transaction.Set(shard.spare_index_unit, 0);  // it is on the chain as well
  transaction.Set(shard.free_pieces, 0);
  for (const format::Word& spare : shard.spare_pieces) transaction.Set(spare, 0);
  transaction.Set(shard.entry_places, 0);
  transaction.Set(shard.keys, 0);
  transaction.Set(shard.live_bytes, 0);
  transaction.Set(shard.value_bytes, 0);
  transaction.Set(shard.clear_sequence, shard.head_sequence.load(kRelaxed));
  transaction.Set(shard.clear_position, position);
  FAULTLESS_TRY(transaction.Commit());
  if (own_run)
    static_cast<void>(FreeRun(context, shard.spare_directory_unit.load(kRelaxed), {format::RunKind::kDirectory},
                              &shard.spare_directory_unit));
  PayForCleaning(context, shard_index);
  return Code::kOk;
}

}  // namespace faultless::store
