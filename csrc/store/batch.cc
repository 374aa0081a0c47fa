#include "store/batch.h"

#include <bit>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "store/batch_change.h"
#include "store/batch_list.h"
#include "store/clock.h"
#include "store/eviction.h"
#include "store/flush.h"
#include "store/give_back.h"
#include "store/index.h"
#include "store/large_value.h"
#include "store/lock.h"
#include "store/prepare.h"
#include "store/record_queue.h"
#include "store/shared_bytes.h"
#include "store/write_rule.h"
#include "store/write_steps.h"

namespace faultless::store {
namespace {

using format::RecordKind;
using format::RecordView;
using format::ShardControl;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr uint64_t kBoundaryBytes = sizeof(format::RecordHeader) + sizeof(format::BatchValue);
constexpr int kPreparations = 64;  // of values that somebody else replaces each time
constexpr int kRoomAttempts = 1000;

/** A key that the batch sets or deletes. */
struct Member {
  const BatchEntry* entry = nullptr;
  uint64_t hash = 0;
  std::vector<format::RunReference> runs;  // of a large value
  format::LargeHeader large{};
  // Under the lock:
  IndexHit hit;
  RecordFacts old;
  bool replaces = false;
  bool old_expired = false;
  uint64_t bytes = 0;  // of its record; 0: it deletes what is not there
  std::vector<format::RunReference> old_runs;
  bool old_promised = false;

  bool deletes() const { return entry->kind == BatchEntry::Kind::kDelete; }
};

struct Check {
  const BatchEntry* entry;
  uint64_t hash;
  ExpectRule rule;
  bool unprepared = false;
};

/** What the batch has to do in one shard. */
struct Share {
  uint32_t shard = 0;
  std::vector<Member> members;
  std::vector<Check*> checks;
  uint64_t bytes = 0;     // of the records, with those before and behind them; 0: nothing is written
  uint64_t position = 0;  // of the first one
  std::optional<BatchChange> change;
};

class BatchCommit {
 public:
  BatchCommit(Context& context, std::span<const BatchEntry> entries) : context_(context), entries_(entries) {}

  Status Run(bool* done);

 private:
  void Sort();
  Status WriteLargeValues();
  Status Attempt(bool* done);
  Status DoChecks(bool* hold);
  Status Plan(Share* share);
  Status MeasureRoom();
  Status FindMembers(Share* share);
  Status PlanIndex(Share* share, bool* split);
  void PlanCounters(Share* share);
  Status TakeList(uint64_t words, uint64_t* unit);
  void Append(const Share& share, uint32_t shards) const;
  void AppendRecord(const Share& share, const RecordView& record, uint64_t* position) const;
  RecordView RecordOf(const Member& member) const;
  void ReleaseOldRuns(const Share& share) const;
  Purpose purpose() const { return only_deletes_ ? Purpose::kReserve : Purpose::kUser; }
  const format::Word& list_chain() const {
    return context_.pending(context_.opener_slot).chains[format::kPendingChains + 1];
  }

  Context& context_;
  const std::span<const BatchEntry> entries_;
  std::vector<Share> shares_;  // by shard
  std::vector<std::unique_ptr<Check>> checks_;
  bool only_deletes_ = true;
  std::optional<LargeValueWriter> large_;
  bool scarce_ = false;         // space
  uint64_t number_ = 0;         // of this attempt
  uint32_t wanting_shard_ = 0;  // where there was no room
};

/** By shard, and of each key what counts of it: the last one. */
void BatchCommit::Sort() {
  std::vector<Bytes> keys;
  for (const BatchEntry& entry : entries_) keys.push_back(entry.key);
  std::vector<uint64_t> hashes(keys.size());
  PrepareKeys(context_, keys, hashes, /*advise=*/keys.size() > 1);
  std::vector<Share> shares(context_.shards());
  std::unordered_map<std::string_view, size_t> last;
  const auto writes = [](const BatchEntry& entry) {
    return entry.kind == BatchEntry::Kind::kSet || entry.kind == BatchEntry::Kind::kDelete;
  };
  const auto name_of = [](Bytes key) {
    return std::string_view(reinterpret_cast<const char*>(key.data()), key.size());
  };
  for (size_t i = 0; i < entries_.size(); i++) {
    if (writes(entries_[i])) last[name_of(entries_[i].key)] = i;
  }
  for (size_t i = 0; i < entries_.size(); i++) {
    const BatchEntry& entry = entries_[i];
    Share& share = shares[context_.ShardOfHash(hashes[i])];
    if (!writes(entry)) {
      const Bytes* const expected = entry.kind == BatchEntry::Kind::kExpect ? &entry.value : nullptr;
      checks_.push_back(std::make_unique<Check>(Check{&entry, hashes[i], ExpectRule(expected)}));
      share.checks.push_back(checks_.back().get());
    } else if (last[name_of(entry.key)] == i) {
      Member& member = share.members.emplace_back();
      member.entry = &entry;
      member.hash = hashes[i];
      only_deletes_ = only_deletes_ && member.deletes();
    }
  }
  for (uint32_t i = 0; i < context_.shards(); i++) {
    if (shares[i].members.empty() && shares[i].checks.empty()) continue;
    shares[i].shard = i;
    shares_.push_back(std::move(shares[i]));
  }
}

/** Once: they stay for all attempts. */
Status BatchCommit::WriteLargeValues() {
  if (large_.has_value()) return Code::kOk;
  large_.emplace(context_);
  for (Share& share : shares_) {
    for (Member& member : share.members) {
      if (member.deletes() || member.entry->value.size() < format::kLargeValueBytes) continue;
      const Status written = large_->Write(member.entry->value, share.shard);
      if (!written.ok()) {
        wanting_shard_ = share.shard;
        large_.reset();
        return written;
      }
      member.runs = large_->runs();
      member.large = large_->header();
    }
  }
  return Code::kOk;
}

RecordView BatchCommit::RecordOf(const Member& member) const {
  RecordView record;
  record.kind = member.deletes() ? RecordKind::kTombstone : RecordKind::kSet;
  record.key = member.entry->key;
  if (member.deletes()) {
    const uint8_t reason = !member.replaces ? format::kReasonAbsent : member.old_expired ? format::kReasonExpired : 0;
    record.flags = static_cast<uint8_t>(reason << format::kRecordReasonShift);
    return record;
  }
  if (member.old_expired) record.flags |= format::kRecordAfterExpiry;
  SetExpiry(member.entry->expires_at_ms, &record);
  record.value = member.entry->value.subspan(member.large.run_bytes);
  if (!member.runs.empty()) {
    record.flags |= format::kRecordLarge;
    record.large = member.large;
    record.runs = member.runs;
  }
  return record;
}

/** Under all locks. */
Status BatchCommit::DoChecks(bool* hold) {
  *hold = true;
  Status cold;
  for (const Share& share : shares_) {
    for (Check* check : share.checks) {
      IndexHit hit;
      RecordFacts facts;
      const Status found = FindKey(context_, share.shard, check->hash, check->entry->key, &hit, &facts);
      if (!found.ok() && found.code() != Code::kAbsent) return found;
      const bool there = found.ok() && !IsExpired(context_, facts.expires_at_ms);
      const Status decided = check->rule.Decide(context_, there ? hit.position : 0);
      check->unprepared = decided.code() == Code::kCold;
      if (check->unprepared) {
        cold = decided;
      } else if (decided.code() == Code::kAbsent) {
        *hold = false;
      } else {
        FAULTLESS_TRY(decided);
      }
    }
  }
  return *hold ? cold : Status();
}

/** What the keys hold, and how long the records will be. */
Status BatchCommit::FindMembers(Share* share) {
  share->bytes = 0;
  for (Member& member : share->members) {
    member.old = {};
    member.old_runs.clear();
    const Status found = FindKey(context_, share->shard, member.hash, member.entry->key, &member.hit, &member.old);
    member.replaces = found.ok();
    if (!found.ok() && found.code() != Code::kAbsent) return found;
    if (!member.replaces) member.old = {};
    member.old_expired = member.replaces && IsExpired(context_, member.old.expires_at_ms);
    if (member.old.run_bytes != 0) {
      FAULTLESS_TRY(RunsOf(context_, share->shard, member.hit.position, &member.old_runs, &member.old_promised));
    }
    const bool is_nothing = member.deletes() && !member.replaces && !MayComeBack(context_, share->shard);
    member.bytes = is_nothing ? 0 : format::RecordBytes(RecordOf(member));
    share->bytes += member.bytes;
  }
  if (share->bytes != 0) share->bytes += 2 * kBoundaryBytes;
  if (share->bytes > kMaxBatchShardBytes) return {Code::kOutOfRange, "a batch has too much in one shard of the store"};
  return Code::kOk;
}

/** The changes of the index. True in *split: a segment has been split, so that all of it is to be planned anew. */
Status BatchCommit::PlanIndex(Share* share, bool* split) {
  *split = false;
  BatchChange& change = *share->change;
  uint64_t position = share->position + kBoundaryBytes;
  std::vector<std::pair<const Member*, uint64_t>> inserted;
  for (const Member& member : share->members) {
    if (member.bytes == 0) continue;
    if (member.deletes()) {
      if (member.replaces) RemoveEntry(context_, &change, member.hit);
    } else if (member.replaces) {
      SwitchEntry(context_, &change, member.hit, format::FingerprintOf(member.hash), position);
    } else {
      inserted.emplace_back(&member, position);
    }
    position += member.bytes;
  }
  for (const auto& [member, at] : inserted) {
    const uint32_t tag = format::TagOf(member->hash);
    IndexHit hit;
    *split = true;
    if (context_.shard(share->shard).directory.load(kRelaxed) == 0) return CreateIndex(context_, share->shard);
    const Status placed = FindEmptyPlace(context_, share->shard, tag, &hit, &change);
    if (placed.code() == Code::kAbsent) return SplitSegment(context_, share->shard, tag);
    FAULTLESS_TRY(placed);
    *split = false;
    InsertEntry(context_, &change, hit, tag, format::FingerprintOf(member->hash), at);
  }
  return Code::kOk;
}

void BatchCommit::PlanCounters(Share* share) {
  const ShardControl& shard = context_.shard(share->shard);
  BatchChange& change = *share->change;
  uint64_t earliest_ms = shard.earliest_expiry_ms.load(kRelaxed);
  for (const Member& member : share->members) {
    if (member.bytes == 0) continue;
    if (!member.deletes()) {
      if (!member.replaces) change.Add(shard.keys, 1);
      change.Add(shard.live_bytes, static_cast<int64_t>(member.bytes));
      change.Add(shard.value_bytes, static_cast<int64_t>(member.large.run_bytes));
      if (member.large.run_bytes != 0) change.Set(shard.had_runs, 1);
      const uint64_t expires_at_ms = member.entry->expires_at_ms;
      if (expires_at_ms != 0 && (earliest_ms == 0 || expires_at_ms < earliest_ms)) earliest_ms = expires_at_ms;
    } else if (member.replaces) {
      change.Add(shard.keys, -1);
    }
    change.Add(shard.live_bytes, -static_cast<int64_t>(member.old.bytes));
    change.Add(shard.value_bytes, -static_cast<int64_t>(member.old.run_bytes));
  }
  change.Set(shard.earliest_expiry_ms, earliest_ms);
  change.Set(shard.batches_end, number_ + 1);
  change.Set(shard.head, share->position + share->bytes);
}

/** Everything in one shard that needs space or may fail. Nothing of the batch can be seen yet. */
Status BatchCommit::Plan(Share* share) {
  if (share->bytes == 0) return Code::kOk;
  for (bool split = false, again = false; split || !again; again = true) {
    share->change.emplace(context_);
    if (split) FAULTLESS_TRY(FindMembers(share));
    FAULTLESS_TRY(EnsureRoom(context_, share->shard, share->bytes, purpose(), scarce_));
    share->position = context_.shard(share->shard).head.load(kRelaxed);
    FAULTLESS_TRY(PlanIndex(share, &split));
  }
  PlanCounters(share);
  return Code::kOk;
}

/** Finds the members, and whether there can be room for all of them: a head that was taken for nothing stays. */
Status BatchCommit::MeasureRoom() {
  uint64_t units = 0;
  for (Share& share : shares_) {
    wanting_shard_ = share.shard;
    FAULTLESS_TRY(FindMembers(&share));
    uint64_t of_share = 0;
    if (share.bytes != 0) FAULTLESS_TRY(UnitsForRoom(context_, share.shard, share.bytes, &of_share));
    units += of_share;
  }
  if (units == 0) return Code::kOk;
  const uint64_t kept = only_deletes_ ? context_.shards() : 2 * context_.shards();
  const uint64_t available = AvailableUnits(context_);
  if (available < units + kept) return {Code::kStoreFull, "the store has reached maxBytes"};
  scarce_ = available < 8 * units + kept;
  return Code::kOk;
}

/** A run for the list, on a chain of its own, so that a death gives it back. */
Status BatchCommit::TakeList(uint64_t words, uint64_t* unit) {
  const format::Word& chain = list_chain();
  while (chain.load(kRelaxed) != 0) FAULTLESS_TRY(FreeFirstOfChain(context_, &chain, {format::RunKind::kValue}));
  const uint64_t bytes = words * sizeof(format::Word);
  const auto size_class = static_cast<uint32_t>(std::bit_width((bytes - 1) / format::kUnitBytes));
  if (size_class > format::kMaxClass) return {Code::kOutOfRange, "a batch changes too much of the index"};
  const RunRequest request{format::RunKind::kValue, shares_.front().shard, 0, nullptr, &chain};
  FAULTLESS_TRY(TakeRun(context_, size_class, request, purpose(), unit));
  return context_.storage->PopulateWrite(*unit * format::kUnitBytes, bytes);
}

void BatchCommit::AppendRecord(const Share& share, const RecordView& record, uint64_t* position) const {
  const uint64_t bytes = format::RecordBytes(record);
  uint8_t* const scratch = RecordScratch(Scratch::kWrite, bytes);
  const uint64_t head_unit = context_.shard(share.shard).head_unit.load(kRelaxed);
  const uint64_t incarnation = context_.entry(head_unit).incarnation.load(kRelaxed);
  format::EncodeRecord(record, scratch);
  format::SealRecord(scratch, *position, incarnation, context_.superblock.hash_seed);
  CopyToShared(context_.base + *position, scratch, bytes);
  *position += bytes;
}

/** Behind the head: bytes of nobody until the batch is decided. */
void BatchCommit::Append(const Share& share, uint32_t shards) const {
  uint64_t position = share.position;
  format::BatchValue value{number_, shards, 0};
  RecordView boundary;
  boundary.kind = RecordKind::kBatch;
  boundary.value = {reinterpret_cast<const uint8_t*>(&value), sizeof value};
  AppendRecord(share, boundary, &position);
  for (const Member& member : share.members) {
    if (member.bytes != 0) AppendRecord(share, RecordOf(member), &position);
  }
  value.is_end = 1;
  AppendRecord(share, boundary, &position);
}

void BatchCommit::ReleaseOldRuns(const Share& share) const {
  // What a release that fails here leaves behind is found again when the old record is cleaned.
  for (const Member& member : share.members) {
    if (!member.old_runs.empty()) static_cast<void>(ReleaseRuns(context_, member.old_runs, member.old_promised));
  }
}

Status BatchCommit::Attempt(bool* done) {
  FAULTLESS_TRY(WriteLargeValues());
  for (const Share& share : shares_) {
    uint64_t most_bytes = 2 * kBoundaryBytes;
    for (const Member& member : share.members) most_bytes += format::RecordBytes(RecordOf(member));
    FAULTLESS_TRY(PrefaultHead(context_, share.shard, most_bytes));
  }

  std::optional<BatchLock> batches(std::in_place, context_);
  FAULTLESS_TRY(batches->status());
  std::vector<std::unique_ptr<ShardLock>> locks;
  for (const Share& share : shares_) {
    locks.push_back(std::make_unique<ShardLock>(context_, share.shard));
    FAULTLESS_TRY(locks.back()->status());
  }
  format::ControlHeader& header = context_.header();
  number_ = header.next_batch.load(kRelaxed);
  const uint64_t changes_before = context_.storage->SubstituteChanges();
  const auto nothing_lost = [&]() -> Status {
    if (context_.storage->HasSubstitutes()) return {Code::kIo, "part of the file cannot be read"};
    return context_.storage->SubstituteChanges() == changes_before ? Status() : Status(Code::kWouldBlock);
  };
  bool hold = false;
  const Status checked = DoChecks(&hold);
  FAULTLESS_TRY(nothing_lost());  // what was found may be zeros
  FAULTLESS_TRY(checked);
  if (!hold) {
    *done = false;
    return Code::kOk;
  }
  const Status measured = MeasureRoom();
  FAULTLESS_TRY(nothing_lost());
  FAULTLESS_TRY(measured);
  std::vector<BatchPart> parts;
  for (Share& share : shares_) {
    wanting_shard_ = share.shard;
    const Status planned = Plan(&share);
    FAULTLESS_TRY(nothing_lost());
    FAULTLESS_TRY(planned);
    if (share.bytes == 0) continue;
    // One chain has the runs of all values.
    if (parts.empty()) large_->TakeOver(&*share.change);
    BatchPart& part = parts.emplace_back();
    part.shard = share.shard;
    part.ops = share.change->Ops();
    for (const Member& member : share.members) {
      if (member.bytes != 0) part.slots.push_back(context_.SlotOfHash(member.hash));
    }
    std::sort(part.slots.begin(), part.slots.end());
    part.slots.erase(std::unique(part.slots.begin(), part.slots.end()), part.slots.end());
  }
  *done = true;
  if (parts.empty()) return Code::kOk;
  uint64_t list_unit = 0;
  FAULTLESS_TRY(TakeList(ListWords(parts), &list_unit));
  header.next_batch.store(number_ + 1, std::memory_order_release);  // never used again, whatever comes of it

  const Status before_stores = nothing_lost();
  if (before_stores.ok()) {
    for (const Share& share : shares_) {
      if (share.bytes != 0) Append(share, static_cast<uint32_t>(parts.size()));
    }
    WriteList(context_, list_unit, number_, parts);
  }
  const Status stored = nothing_lost();
  if (!stored.ok()) {
    // What stands behind the heads must not be found by a recovery, or be taken for records behind others. Where that
    // cannot be seen to now, whoever takes the shard's lock next does it.
    for (const BatchPart& part : parts) {
      if (EraseUnfinished(context_, part.shard).ok()) continue;
      context_.shard(part.shard).intent.count.store(format::kIntentOfBatch, std::memory_order_release);
    }
    return stored;
  }
  const Status committed = CommitList(context_, list_unit, parts);
  large_->Taken();  // decided it is, whoever applies it
  FAULTLESS_TRY(committed);
  // In RAM there is no power cut that a batch would have to wait for.
  if (!context_.promises()) header.settled_batches.store(number_ + 1, std::memory_order_release);

  for (const Share& share : shares_) ReleaseOldRuns(share);
  static_cast<void>(FreeFirstOfChain(context_, &list_chain(), {format::RunKind::kValue}));
  batches.reset();
  for (size_t i = 0; i < shares_.size(); i++) {
    for (const Member& member : shares_[i].members) {
      if (member.bytes != 0) PayForCleaning(context_, shares_[i].shard);
    }
    locks[i].reset();
  }
  return Code::kOk;
}

Status BatchCommit::Run(bool* done) {
  *done = false;
  if (context_.read_only) return Code::kReadOnly;
  if (entries_.size() > kMaxBatchEntries) return {Code::kOutOfRange, "a batch has at most 65,536 entries"};
  for (const BatchEntry& entry : entries_) FAULTLESS_TRY(CheckWrite(context_, entry.key, entry.value.size()));
  if (entries_.empty()) {
    *done = true;
    return Code::kOk;
  }
  FAULTLESS_TRY(RequireRealPages(context_));
  Sort();
  Status status = Code::kWouldBlock;
  for (int cold = 0, full = 0; cold < kPreparations && full < kRoomAttempts;) {
    const uint64_t changes = context_.storage->SubstituteChanges();
    status = Attempt(done);
    if (status.code() == Code::kCorrupt && context_.storage->SubstituteChanges() != changes) {
      status = Code::kWouldBlock;  // as for any write: it may have met zeros in place of a page
      break;
    } else if (status.code() == Code::kCold) {
      cold++;
      for (const auto& check : checks_) {
        if (check->unprepared) FAULTLESS_TRY(check->rule.Prepare(context_));
      }
      status = Code::kWouldBlock;
    } else if (IsOutOfSpace(status)) {
      full++;
      bool progress = false;
      uint64_t bytes = 0;
      for (const BatchEntry& entry : entries_) bytes += entry.key.size() + entry.value.size();
      FAULTLESS_TRY(MakeRoom(context_, wanting_shard_, purpose(), bytes, &progress));
      if (!progress) break;
    } else {
      break;
    }
  }
  FAULTLESS_TRY(status);
  for (const Share& share : shares_) FlushWhereHeldUp(context_, share.shard);
  PayElsewhere(context_, shares_.front().shard);
  if (context_.evicts()) PayForEviction(context_);
  FlushWhereLimboIsLarge(context_);
  GiveBackFreeSpace(context_);
  return Code::kOk;
}

}  // namespace

Status CommitBatch(Context& context, std::span<const BatchEntry> entries, bool* done) {
  return BatchCommit(context, entries).Run(done);
}

}  // namespace faultless::store
