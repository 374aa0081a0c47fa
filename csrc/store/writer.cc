#include "store/writer.h"

#include "base/hash.h"
#include "store/cleaner.h"
#include "store/clock.h"
#include "store/eviction.h"
#include "store/expiry_sweep.h"
#include "store/flush.h"
#include "store/give_back.h"
#include "store/index.h"
#include "store/index_merge.h"
#include "store/index_pieces.h"
#include "store/large_value.h"
#include "store/lock.h"
#include "store/record_queue.h"
#include "store/write_steps.h"

namespace faultless::store {
namespace {

using format::RecordKind;
using format::ShardControl;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr CleaningBudget kCleaningForSpace{4096, 1024, 4 << 20};
constexpr SweepBudget kSweepForSpace{4096, 4 << 20, 1024};
constexpr int kPreparations = 64;  // of a value that somebody else replaces each time

}  // namespace

Status FindKey(const Context& context, uint32_t shard_index, uint64_t hash, Bytes key, IndexHit* hit,
               RecordFacts* facts) {
  return Probe({context}, context.shard(shard_index), format::TagOf(hash), format::FingerprintOf(hash), NeverStop,
               [&](const IndexHit& found) -> Status {
                 const Status status = MatchKey(context, found.position, key, facts);
                 if (status.ok()) *hit = found;
                 return status;
               });
}

namespace {

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

}  // namespace

Status RunsOf(const Context& context, uint32_t shard_index, uint64_t position, std::vector<format::RunReference>* runs,
              bool* promised) {
  format::RecordView record;
  uint64_t bytes;
  FAULTLESS_TRY(ReadRecordAt(context, position, &record, &bytes));
  runs->assign(record.runs.begin(), record.runs.end());
  *promised = AreRunsPromised(context, shard_index, position, record);
  return Code::kOk;
}

void PayForCleaning(const Context& context, uint32_t shard_index) {
  uint32_t left;
  bool progress;
  if (NeedsSweep(context, shard_index)) {
    static_cast<void>(Sweep(context, shard_index, kSweepPerWrite, /*patient=*/false, &progress));
    // A fault may have left a change decided and not applied.
    if (context.shard(shard_index).intent.count.load(kRelaxed) != 0) return;
  }
  if (NeedsCleaning(context, shard_index)) static_cast<void>(Clean(context, shard_index, kCleaningPerWrite, &left));
  static_cast<void>(ReleaseDroppedIndex(context, shard_index));
  PayForMerging(context, shard_index);
}

void PayElsewhere(Context& context, uint32_t written_shard) {
  const uint32_t shard_index = context.next_swept_shard.fetch_add(1, kRelaxed) % context.shards();
  auto& swept = context.hints[shard_index].swept;
  const bool sweep = NeedsSweep(context, shard_index);
  if (shard_index == written_shard || (!sweep && !swept.load(kRelaxed))) return;
  if (!sweep && !NeedsCleaning(context, shard_index)) {
    swept.store(false, kRelaxed);
    return;
  }
  if (context.shard(shard_index).lock.load(kRelaxed) != 0) return;
  const ShardLock lock(context, shard_index);
  if (!lock.status().ok()) return;
  swept.store(true, kRelaxed);
  PayForCleaning(context, shard_index);
}

Status RequireRealPages(const Context& context) {
  if (context.storage->HasSubstitutes() && context.storage->Restore() > 0) {
    return {Code::kIo, "part of the file cannot be read"};
  }
  return Code::kOk;
}

namespace {

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

/**
 * What deletes and cleaning leave is there for flushes, which need it for marks of queues whose tails have moved. Where
 * nothing waits for a flush no tail has, so a shard may be cleaned with that: alone, and no delete comes in between
 * that would fill up what the oldest extent's live records are to go to. When that extent is gone there is as much as
 * before, and the dead records of it have become room at the head.
 */
void CleanWithLastUnits(Context& context, uint32_t preferred_shard, bool* progress, bool* held) {
  auto& flush_lock = context.allocator().flush_lock;
  if (!TryAcquireWord(context, &flush_lock).ok()) {
    *held = true;
    return;
  }
  for (uint32_t i = 0; i < context.shards() && !*progress; i++) {
    const uint32_t shard_index = (preferred_shard + i) % context.shards();
    const ShardControl& shard = context.shard(shard_index);
    const ShardLock lock(context, shard_index);
    *held = *held || lock.status().code() == Code::kWouldBlock;
    format::EntryView tail;
    const uint64_t tail_unit = shard.tail_unit.load(kRelaxed);
    if (!lock.status().ok() || !ReadRun(context, tail_unit, format::RunKind::kQueue, &tail)) continue;
    if (tail_unit == shard.head_unit.load(kRelaxed) || GarbageBytes(context, shard_index) == 0) continue;
    if (AvailableUnits(context) <= RunBytes(tail.size_class) / format::kUnitBytes) continue;
    // No more than what lives in that extent: the next one would need units that wait for a flush by then.
    CleaningBudget budget = kCleaningForSpace;
    budget.moved_bytes = RunBytes(tail.size_class);
    budget.purpose = Purpose::kFlush;
    uint32_t left = 0;
    static_cast<void>(Clean(context, shard_index, budget, &left));
    *progress = left > 0;
  }
  ReleaseWord(&flush_lock);
}

}  // namespace

Status MakeRoom(Context& context, uint32_t preferred_shard, Purpose purpose, uint64_t bytes, bool* progress) {
  if (context.evicts()) return EvictForRoom(context, bytes, progress);
  *progress = false;
  bool held = false;
  bool held_up = false;  // by a batch that no flush covers yet
  for (uint32_t i = 0; i < context.shards(); i++) {
    const uint32_t shard_index = (preferred_shard + i) % context.shards();
    const bool sweep = NeedsSweep(context, shard_index);
    if (!sweep && !IsWorthCleaning(context, shard_index, purpose)) continue;
    const ShardLock lock(context, shard_index);
    if (lock.status().code() == Code::kWouldBlock) {
      held = true;
      continue;
    }
    FAULTLESS_TRY(lock.status());
    if (sweep) {
      bool more = false;
      const Status swept = Sweep(context, shard_index, kSweepForSpace, /*patient=*/true, &more);
      if (swept.ok() && more) *progress = true;
      const bool undecided = context.shard(shard_index).intent.count.load(kRelaxed) != 0;
      if (undecided || !IsWorthCleaning(context, shard_index, purpose)) continue;
    }
    uint32_t left = 0;
    if (!Clean(context, shard_index, kCleaningForSpace, &left).ok())
      continue;  // damage there is no fault of this write
    const bool stopped = context.hints[shard_index].held_up.exchange(false, kRelaxed);
    held_up = held_up || stopped;
    if (!stopped || left > 0) *progress = true;
    if (left > 0) break;
  }
  if (held_up) {
    const Status flushed = TryFlush(context);
    held = held || flushed.code() == Code::kWouldBlock;
    if (flushed.ok()) *progress = true;
  }
  const uint64_t limbo = context.allocator().limbo_units.load(kRelaxed);
  if (limbo > 0) {
    const Status flushed = TryFlush(context);
    // A counter that lies must not make a write flush for ever: only what has come back counts. Others may have put as
    // much into limbo meanwhile, or be at a flush themselves.
    if (flushed.ok() && context.allocator().limbo_units.load(kRelaxed) < limbo) *progress = true;
    held = held || flushed.ok() || flushed.code() == Code::kWouldBlock;
  }
  if (*progress || purpose != Purpose::kReserve) return Code::kOk;
  if (!held && limbo == 0) CleanWithLastUnits(context, preferred_shard, progress, &held);
  return !*progress && held ? Status(Code::kWouldBlock) : Status();
}

namespace {

/** What a write wants of its key and is to put there. */
struct Write {
  uint64_t hash;
  Bytes key;
  Bytes value;
  const WriteOptions& options;
  WriteRule* rule = nullptr;  // nullptr: it happens whatever the key holds
};

/** Asks the rule of the write, under the lock. `found`: what FindKey said. */
Status Decide(const Context& context, const Write& write, const Status& found, const IndexHit& hit,
              const RecordFacts& old) {
  if (write.rule == nullptr) return Code::kOk;
  const bool there = found.ok() && !IsExpired(context, old.expires_at_ms);
  return write.rule->Decide(context, there ? hit.position : 0);
}

}  // namespace

void SetExpiry(uint64_t expires_at_ms, format::RecordView* record) {
  record->flags &= static_cast<uint8_t>(~format::kRecordExpires);
  if (expires_at_ms != 0) record->flags |= format::kRecordExpires;
  record->expires_at_ms = expires_at_ms;
}

namespace {

/** Nothing in the shard expires before what is noted: the record that the transaction appends included. */
void NoteExpiry(ShardControl& shard, uint64_t expires_at_ms, Transaction* transaction) {
  if (expires_at_ms == 0) return;
  const uint64_t earliest_ms = shard.earliest_expiry_ms.load(kRelaxed);
  if (earliest_ms == 0 || expires_at_ms < earliest_ms) transaction->Set(shard.earliest_expiry_ms, expires_at_ms);
}

Status TrySet(Context& context, const Write& write) {
  const auto& [hash, key, value, options, rule] = write;
  const uint32_t shard_index = context.ShardOfHash(hash);
  ShardControl& shard = context.shard(shard_index);
  LargeValueWriter large(context);
  format::RecordView record;
  record.kind = RecordKind::kSet;
  record.key = key;
  record.value = value;
  SetExpiry(options.expires_at_ms, &record);
  if (value.size() >= format::kLargeValueBytes) {
    FAULTLESS_TRY(large.Write(value, shard_index));
    large.Describe(value, &record);
  }
  const uint64_t most_bytes = format::RecordBytes(record) + (options.keep_expiry ? sizeof record.expires_at_ms : 0);
  FAULTLESS_TRY(PrefaultHead(context, shard_index, most_bytes));
  Touch(context, shard_index, hash, key);

  const ShardLock lock(context, shard_index);
  FAULTLESS_TRY(lock.status());
  FAULTLESS_TRY(EnsureRoom(context, shard_index, most_bytes, Purpose::kUser));
  const uint64_t changes_before = context.storage->SubstituteChanges();
  IndexHit hit;
  RecordFacts old;
  const Status found = FindKey(context, shard_index, hash, key, &hit, &old);
  const bool replaces = found.ok();
  if (!replaces && found.code() != Code::kAbsent) return found;
  const Status decided = Decide(context, write, found, hit, old);
  if (context.storage->SubstituteChanges() != changes_before) return Code::kWouldBlock;  // what was found may be zeros
  FAULTLESS_TRY(decided);
  const bool expired = replaces && IsExpired(context, old.expires_at_ms);
  if (expired) record.flags |= format::kRecordAfterExpiry;
  if (options.keep_expiry && replaces && !expired) SetExpiry(old.expires_at_ms, &record);
  if (!replaces) FAULTLESS_TRY(MakePlace(context, shard_index, format::TagOf(hash), &hit));
  std::vector<format::RunReference> old_runs;
  bool old_promised = false;
  if (replaces && old.run_bytes != 0) {
    FAULTLESS_TRY(RunsOf(context, shard_index, hit.position, &old_runs, &old_promised));
  }
  const uint64_t bytes = format::RecordBytes(record);
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
  NoteExpiry(shard, record.expires_at_ms, &transaction);
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

/** The value stays, with its runs, and gets another expiry: the record is written again. */
Status TryTouch(Context& context, const Write& write, bool* existed) {
  const auto& [hash, key, value, options, rule] = write;
  const uint32_t shard_index = context.ShardOfHash(hash);
  ShardControl& shard = context.shard(shard_index);
  *existed = false;
  FAULTLESS_TRY(PrefaultHead(context, shard_index, os::PageSize()));
  Touch(context, shard_index, hash, key);
  const ShardLock lock(context, shard_index);
  FAULTLESS_TRY(lock.status());
  const uint64_t changes_before = context.storage->SubstituteChanges();
  IndexHit hit;
  RecordFacts old;
  const Status found = FindKey(context, shard_index, hash, key, &hit, &old);
  if (context.storage->SubstituteChanges() != changes_before) return Code::kWouldBlock;
  if (found.code() == Code::kAbsent) return Code::kOk;
  FAULTLESS_TRY(found);
  if (IsExpired(context, old.expires_at_ms)) return Code::kOk;
  FAULTLESS_TRY(
      EnsureRoom(context, shard_index, old.bytes + sizeof(format::RecordView::expires_at_ms), Purpose::kUser));
  format::RecordView record;
  uint64_t old_bytes;
  FAULTLESS_TRY(ReadRecordAt(context, hit.position, &record, &old_bytes));
  if (!format::VerifyChecksum({RecordScratch(Scratch::kRead, old_bytes), old_bytes})) {
    return Status::Corrupt("a record's checksum does not match", hit.position);
  }
  SetExpiry(options.expires_at_ms, &record);
  // As for what cleaning moves, the promised reference to the runs may be an older one, and the value is the same.
  record.flags &= static_cast<uint8_t>(~format::kRecordAfterExpiry);
  record.flags |= format::kRecordMoved;
  const uint64_t bytes = format::RecordBytes(record);
  uint8_t* const scratch = RecordScratch(Scratch::kWrite, bytes);
  format::EncodeRecord(record, scratch);
  if (context.storage->SubstituteChanges() != changes_before) return Code::kWouldBlock;
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  const uint64_t position = Append(context, shard_index, scratch, bytes, &transaction);
  SwitchEntry(context, &transaction, hit, format::FingerprintOf(hash), position);
  transaction.Add(shard.live_bytes, static_cast<int64_t>(bytes - old.bytes));
  NoteExpiry(shard, record.expires_at_ms, &transaction);
  transaction.MoveSlot(context.SlotOfHash(hash));
  FAULTLESS_TRY(transaction.Commit());
  *existed = true;
  PayForCleaning(context, shard_index);
  return Code::kOk;
}

Status TryDelete(Context& context, const Write& write, bool* existed) {
  const uint64_t hash = write.hash;
  const Bytes key = write.key;
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
  const Status decided =
      found.ok() || found.code() == Code::kAbsent ? Decide(context, write, found, hit, old) : Status();
  if (context.storage->HasSubstitutes()) return {Code::kIo, "part of the file cannot be read"};
  if (context.storage->SubstituteChanges() != changes_before) return Code::kWouldBlock;
  FAULTLESS_TRY(decided);
  const bool absent = found.code() == Code::kAbsent;
  if (absent && !MayComeBack(context, shard_index)) return Code::kOk;
  if (!absent) FAULTLESS_TRY(found);
  const bool expired = !absent && IsExpired(context, old.expires_at_ms);
  format::RecordView tombstone;
  tombstone.kind = RecordKind::kTombstone;
  if (expired) tombstone.flags = format::kReasonExpired << format::kRecordReasonShift;
  if (absent) tombstone.flags = format::kReasonAbsent << format::kRecordReasonShift;
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
  if (absent) return transaction.Commit();
  RemoveEntry(context, &transaction, hit);
  transaction.Add(shard.keys, -1);
  transaction.Add(shard.live_bytes, -static_cast<int64_t>(old.bytes));
  if (old.run_bytes != 0) transaction.Add(shard.value_bytes, -static_cast<int64_t>(old.run_bytes));
  transaction.MoveSlot(context.SlotOfHash(hash));
  FAULTLESS_TRY(transaction.Commit());
  *existed = !expired;
  // What a release that fails here leaves behind is found again when the old record is cleaned.
  if (!old_runs.empty()) static_cast<void>(ReleaseRuns(context, old_runs, old_promised));
  PayForCleaning(context, shard_index);
  return Code::kOk;
}

/** Runs `attempt` again as long as a store that is full, or whose device is, can be given more room. */
template <typename Attempt>
Status WithRoom(Context& context, uint32_t shard_index, Purpose purpose, uint64_t bytes, const Attempt& attempt) {
  FAULTLESS_TRY(RequireRealPages(context));
  constexpr int kAttempts = 1000;
  const auto& allocator = context.allocator();
  for (int i = 0;; i++) {
    const uint64_t flushes = allocator.flush_count.load(kRelaxed);
    const uint64_t free_units = allocator.free_units.load(kRelaxed);
    const uint64_t changes = context.storage->SubstituteChanges();
    const Status status = attempt();
    // What passes for damage may be the zeros in place of a page that could not be had: the next attempt finds out.
    if (status.code() == Code::kCorrupt && context.storage->SubstituteChanges() != changes) return Code::kWouldBlock;
    if (!IsOutOfSpace(status) || i == kAttempts) return status;
    bool progress;
    FAULTLESS_TRY(MakeRoom(context, shard_index, purpose, bytes, &progress));
    // What others have given back meanwhile counts as well.
    progress =
        progress || allocator.flush_count.load(kRelaxed) != flushes || allocator.free_units.load(kRelaxed) > free_units;
    if (!progress) return status;
  }
}

}  // namespace

Status CheckWrite(const Context& context, Bytes key, uint64_t value_bytes) {
  if (context.read_only) return Code::kReadOnly;
  if (key.empty()) return Code::kKeyEmpty;
  if (key.size() > kMaxKeyBytes) return Code::kKeyTooLong;
  if (value_bytes > kMaxValueBytes) return Code::kValueTooLarge;
  // Not to be found out by evicting all the others.
  if (context.evicts() && IsTooLarge(context, value_bytes)) {
    return {Code::kStoreFull, "the value takes more than half of what the store can hold"};
  }
  return Code::kOk;
}

namespace {

/** Runs `attempt(write)` with all that a write may need besides. */
template <typename Attempt>
Status RunWrite(Context& context, const Write& write, Purpose purpose, const Attempt& attempt) {
  Status status;
  for (int i = 0; i < kPreparations; i++) {
    status =
        WithRoom(context, context.ShardOfHash(write.hash), purpose, write.value.size(), [&] { return attempt(write); });
    if (status.code() != Code::kCold) break;
    FAULTLESS_TRY(write.rule->Prepare(context));
    status = Code::kWouldBlock;
  }
  FAULTLESS_TRY(status);
  PayElsewhere(context, context.ShardOfHash(write.hash));
  FlushWhereHeldUp(context, context.ShardOfHash(write.hash));
  if (context.evicts()) PayForEviction(context);
  FlushWhereLimboIsLarge(context);
  GiveBackFreeSpace(context);
  return Code::kOk;
}

uint64_t HashOfKey(const Context& context, Bytes key) {
  return HashBytes(key.data(), key.size(), context.superblock.hash_seed);
}

constexpr WriteOptions kPlain{};

}  // namespace

Status SetRecord(Context& context, Bytes key, Bytes value, const WriteOptions& options, WriteRule* rule) {
  FAULTLESS_TRY(CheckWrite(context, key, value.size()));
  const Write write{HashOfKey(context, key), key, value, options, rule};
  return RunWrite(context, write, Purpose::kUser, [&](const Write& now) { return TrySet(context, now); });
}

Status DeleteRecord(Context& context, Bytes key, bool* existed, WriteRule* rule) {
  FAULTLESS_TRY(CheckWrite(context, key, 0));
  const Write write{HashOfKey(context, key), key, {}, kPlain, rule};
  return RunWrite(context, write, Purpose::kReserve,
                  [&](const Write& now) { return TryDelete(context, now, existed); });
}

Status TouchRecord(Context& context, Bytes key, const WriteOptions& options, bool* existed) {
  FAULTLESS_TRY(CheckWrite(context, key, 0));
  const Write write{HashOfKey(context, key), key, {}, options};
  return RunWrite(context, write, Purpose::kUser, [&](const Write& now) { return TryTouch(context, now, existed); });
}

namespace {

Status TryClear(Context& context, uint32_t shard_index, uint64_t number) {
  ShardControl& shard = context.shard(shard_index);
  while (shard.dropped_index_units.load(std::memory_order_acquire) != 0) {
    const ShardLock lock(context, shard_index);
    FAULTLESS_TRY(lock.status());
    for (int i = 0; i < 64; i++) FAULTLESS_TRY(ReleaseDroppedIndex(context, shard_index));
  }
  const ShardLock lock(context, shard_index);
  FAULTLESS_TRY(lock.status());
  if (shard.head.load(kRelaxed) == 0) {
    shard.empty_clears.store(std::max(number, shard.empty_clears.load(kRelaxed)), std::memory_order_release);
    return Code::kOk;
  }
  if (shard.dropped_index_units.load(kRelaxed) != 0) return Code::kWouldBlock;  // another clear came in between
  const format::ClearValue value{number, context.owner_word};
  format::RecordView clear;
  clear.kind = RecordKind::kClear;
  clear.value = {reinterpret_cast<const uint8_t*>(&value), sizeof value};
  alignas(8) uint8_t scratch[sizeof(format::RecordHeader) + sizeof value];
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
  DropUnits(context, shard_index, &transaction);
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

}  // namespace

uint64_t BeginClear(const Context& context) {
  return context.read_only ? 0 : context.header().clears.fetch_add(1, std::memory_order_acq_rel) + 1;
}

Status ClearShard(Context& context, uint32_t shard_index, uint64_t number) {
  if (context.read_only) return Code::kReadOnly;
  return WithRoom(context, shard_index, Purpose::kReserve, 0, [&] { return TryClear(context, shard_index, number); });
}

}  // namespace faultless::store
