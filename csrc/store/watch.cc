#include "store/watch.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "store/allocator.h"
#include "store/clock.h"
#include "store/expiry_sweep.h"
#include "store/large_value.h"
#include "store/lock.h"
#include "store/record_queue.h"
#include "store/watch_bell.h"

namespace faultless::store {
namespace {

using format::RecordKind;
using format::ShardControl;

constexpr auto kAcquire = std::memory_order_acquire;

// A step.
constexpr uint64_t kDeliveredBytes = 64 * 1024;
constexpr uint32_t kDelivered = 1'000;
constexpr uint32_t kLookedAt = 16'384;
constexpr uint64_t kLookedAtBytes = 4 << 20;

/** What a dead writer has decided, and did not live to tell, is found out so often. */
constexpr uint64_t kLookMs = 1'000;
/** Who may not write cannot ask to be told. */
constexpr uint64_t kReaderLookMs = 20;
/** While something has expired and is being looked for. */
constexpr uint64_t kSweepMs = 20;
/** A clear that has not gone on for so long has been given up: longer than it waits for a lock. */
constexpr uint64_t kClearNs = 7'000'000'000;

}  // namespace

struct Watching::Budget {
  ChangeSink* sink = nullptr;
  uint64_t delivered_bytes = 0;
  uint32_t delivered = 0;
  uint32_t looked_at = 0;
  uint64_t looked_at_bytes = 0;
  bool told_gap = false;  // as the last one
  bool wanted = true;
  Status status;

  bool IsLeft() const {
    return wanted && status.ok() && delivered_bytes < kDeliveredBytes && delivered < kDelivered &&
           looked_at < kLookedAt && looked_at_bytes < kLookedAtBytes;
  }
};

Watching::Watching(const Context& context, Bytes prefix) : context_(context), prefix_(prefix.begin(), prefix.end()) {
  cursors_.resize(context.shards());
  StartAll();
}

void Watching::StartAll() {
  old_clears_ = context_.header().clears.load(kAcquire);
  for (uint32_t i = 0; i < context_.shards(); i++) cursors_[i] = StartOf(i);
  clear_ = 0;
}

/**
 * These words are stored one by one, in the order head, head_unit, head_sequence, when an extent is linked. They are
 * read the other way round, so that with a sequence that stays the same comes its own extent or, while it is being
 * linked, the begin of the one after it: ReadNext tells which.
 */
Watching::Cursor Watching::StartOf(uint32_t shard_index) const {
  const ShardControl& shard = context_.shard(shard_index);
  Cursor cursor{};
  cursor.untold = shard.untold_drops.load(kAcquire);
  do {
    cursor.sequence = shard.head_sequence.load(kAcquire);
    cursor.unit = shard.head_unit.load(kAcquire);
    cursor.position = shard.head.load(std::memory_order_seq_cst);
  } while (shard.head_sequence.load(kAcquire) != cursor.sequence);
  if (cursor.position == 0) cursor.unit = 0;
  return cursor;
}

bool Watching::HasPrefix(Bytes key) const {
  return key.size() >= prefix_.size() && std::equal(prefix_.begin(), prefix_.end(), key.begin());
}

void Watching::Tell(ChangeKind kind, Bytes key, Bytes value, Budget* budget) {
  if (kind == ChangeKind::kGap && budget->told_gap) return;
  budget->told_gap = kind == ChangeKind::kGap;
  budget->delivered++;
  budget->delivered_bytes += key.size() + value.size();
  if (!budget->sink->Change(kind, key, value)) budget->wanted = false;
}

Watching::Outcome Watching::Fail(const Status& status, Budget* budget) {
  budget->status = status;
  return Outcome::kFailed;
}

Status Watching::Read(ChangeSink* sink) {
  RenewWatch(context_);
  Budget budget;
  budget.sink = sink;
  idle_ = false;
  wait_ms_ = context_.read_only ? kReaderLookMs : kLookMs;
  SweepExpired();
  bell_ = context_.header().watch_bell.load(std::memory_order_seq_cst);
  ReadAll(&budget);
  if (budget.delivered == 0 && budget.IsLeft()) {
    if (!context_.read_only) context_.header().watch_sleepers.store(1, std::memory_order_seq_cst);
    // Once more: what is committed from here on finds somebody asleep.
    SettleDead();
    ReadAll(&budget);
    idle_ = budget.delivered == 0 && budget.IsLeft();
  }
  // What has been delivered counts; the next step meets the failure again.
  return budget.delivered > 0 ? Status() : budget.status;
}

void Watching::ReadAll(Budget* budget) {
  do {
    const std::vector<uint32_t> begun = BegunQueues();
    for (uint32_t i = 0; i < context_.shards(); i++) {
      if (!budget->IsLeft()) return;
      const uint32_t shard_index = next_shard_;
      if (HasQueue(cursors_[shard_index])) ReadShard(shard_index, budget);
      // One that has more is not read again before all others have had their turn.
      next_shard_ = (shard_index + 1) % context_.shards();
    }
    for (const uint32_t i : begun) {
      if (!budget->IsLeft()) return;
      if (HasQueue(cursors_[i]) || (clear_ != 0 && IsPassed(i, clear_))) continue;
      if (BeginQueue(i)) {
        ReadShard(i, budget);
      } else {
        StartAll();
        Tell(ChangeKind::kGap, {}, {}, budget);
      }
    }
  } while (budget->IsLeft() && SettleClear(budget));
}

/**
 * Shards whose queues have begun since they were looked at last, to be read after all others: a clear that found no
 * queue there has left a record in those that came before it. For the same reason the order is that of the clears that
 * came before the queues, and what has begun between the two looks is left for the next time where a clear came before
 * it that the first look may have missed.
 */
std::vector<uint32_t> Watching::BegunQueues() const {
  std::vector<uint32_t> begun;
  uint64_t last_clear = 0;
  const auto clears = [&](uint32_t i) { return context_.shard(i).empty_clears.load(kAcquire); };
  const auto look = [&](const auto& found) {
    for (uint32_t i = 0; i < context_.shards(); i++) {
      if (!HasQueue(cursors_[i]) && context_.shard(i).head.load(std::memory_order_seq_cst) != 0) found(i);
    }
  };
  bool any = false;
  look([&](uint32_t i) {
    any = true;
    last_clear = std::max(last_clear, clears(i));
  });
  if (!any) return begun;
  look([&](uint32_t i) {
    if (clears(i) <= last_clear) begun.push_back(i);
  });
  std::stable_sort(begun.begin(), begun.end(), [&](uint32_t a, uint32_t b) { return clears(a) < clears(b); });
  return begun;
}

void Watching::ReadShard(uint32_t shard_index, Budget* budget) {
  const uint64_t untold = context_.shard(shard_index).untold_drops.load(kAcquire);
  while (budget->IsLeft() && !cursors_[shard_index].waits) {
    switch (ReadNext(shard_index, budget)) {
      case Outcome::kGoOn:
        break;
      case Outcome::kLost:
        // Everywhere: what comes after a gap is what was committed after it, whatever the key.
        StartAll();
        Tell(ChangeKind::kGap, {}, {}, budget);
        return;
      case Outcome::kAtHead:
        // Behind all that was there before: who reads the store on hearing it misses nothing.
        if (untold != cursors_[shard_index].untold) Tell(ChangeKind::kGap, {}, {}, budget);
        cursors_[shard_index].untold = untold;
        return;
      case Outcome::kFailed:
        return;
    }
  }
}

/** Whether the cursor's extent is still one of the queue: asked after its bytes have been read, they were its own. */
bool Watching::IsInQueue(uint32_t shard_index) const {
  return context_.shard(shard_index).tail_sequence.load(kAcquire) <= cursors_[shard_index].sequence;
}

/** The begin of the queue where there was none at first; false where that has been cleaned away. */
bool Watching::BeginQueue(uint32_t shard_index) {
  const ShardControl& shard = context_.shard(shard_index);
  Cursor& cursor = cursors_[shard_index];
  const uint64_t first = cursor.sequence + 1;
  const uint64_t unit = shard.tail_unit.load(kAcquire);
  format::EntryView extent;
  if (!ReadRun(context_, unit, format::RunKind::kQueue, &extent) || extent.shard != shard_index ||
      extent.sequence != first) {
    return false;
  }
  cursor.unit = unit;
  cursor.sequence = first;
  cursor.position = unit * format::kUnitBytes;
  cursor.passed_clear = shard.empty_clears.load(kAcquire);
  return true;
}

Watching::Outcome Watching::NextExtent(uint32_t shard_index) {
  Cursor& cursor = cursors_[shard_index];
  const uint64_t unit = context_.entry(cursor.unit).next.load(kAcquire);
  format::EntryView extent;
  const bool found = ReadRun(context_, unit, format::RunKind::kQueue, &extent) && extent.shard == shard_index &&
                     extent.sequence == cursor.sequence + 1;
  if (!found || !IsInQueue(shard_index)) return Outcome::kLost;
  cursor.unit = unit;
  cursor.sequence++;
  cursor.position = unit * format::kUnitBytes;
  return Outcome::kGoOn;
}

Watching::Outcome Watching::ReadNext(uint32_t shard_index, Budget* budget) {
  const ShardControl& shard = context_.shard(shard_index);
  Cursor& cursor = cursors_[shard_index];
  const uint64_t head_sequence = shard.head_sequence.load(kAcquire);
  const uint64_t head = shard.head.load(std::memory_order_seq_cst);
  format::EntryView extent;
  if (!ReadRun(context_, cursor.unit, format::RunKind::kQueue, &extent) || extent.shard != shard_index) {
    return Outcome::kLost;
  }
  const uint64_t begin = cursor.unit * format::kUnitBytes;
  const uint64_t end = begin + RunBytes(extent.size_class);
  // StartOf met an extent that was being linked.
  if (extent.sequence == cursor.sequence + 1 && cursor.position == begin) cursor.sequence++;
  if (extent.sequence != cursor.sequence || !IsInQueue(shard_index)) return Outcome::kLost;
  // A head elsewhere, with this extent's sequence, is already the next extent's.
  const bool is_head = head >= begin && head <= end && cursor.sequence >= head_sequence;
  if (!is_head && cursor.sequence > head_sequence) return Outcome::kAtHead;
  if (cursor.position < begin || cursor.position > end) cursor.position = end;
  const uint64_t limit = is_head ? head : end;

  if (cursor.position < limit && end - cursor.position >= sizeof(format::RecordHeader)) {
    const uint64_t changes = context_.storage->SubstituteChanges();
    const uint64_t first = context_.WordAt(cursor.position).load(kAcquire);
    const uint64_t length = format::RecordLength(first);
    if (!IsInQueue(shard_index)) return Outcome::kLost;
    if (context_.storage->HasSubstitutes() || context_.storage->SubstituteChanges() != changes) {
      return Fail(Status::Io("a page of the file could not be read", cursor.position), budget);
    }
    if (length == 0 || length > limit - cursor.position) {
      return Fail(Status::Corrupt("a record has no length", cursor.position), budget);
    }
    if (format::RecordKindOf(first) != RecordKind::kEnd) {
      budget->looked_at++;
      const RecordKind kind = format::RecordKindOf(first);
      const bool moved = kind == RecordKind::kSet && (format::RecordFlags(first) & format::kRecordMoved) != 0;
      if (kind != RecordKind::kMark && !moved) return TellRecord(shard_index, length, budget);
      cursor.position += length;
      return Outcome::kGoOn;
    }
  }
  return is_head ? Outcome::kAtHead : NextExtent(shard_index);
}

Watching::Outcome Watching::TellRecord(uint32_t shard_index, uint64_t length, Budget* budget) {
  Cursor& cursor = cursors_[shard_index];
  const uint64_t position = cursor.position;
  const uint64_t changes = context_.storage->SubstituteChanges();
  format::RecordView record;
  uint64_t bytes;
  Status status = ReadRecordAt(context_, position, &record, &bytes);
  if (status.ok() && !format::VerifyChecksum({RecordScratch(Scratch::kRead, bytes), bytes})) {
    status = Status::Corrupt("a record's checksum does not match", position);
  }
  if (!IsInQueue(shard_index)) return Outcome::kLost;
  if (context_.storage->HasSubstitutes() || context_.storage->SubstituteChanges() != changes) {
    return Fail(Status::Io("a page of the file could not be read", position), budget);
  }
  if (!status.ok()) return Fail(status, budget);
  budget->looked_at_bytes += length;
  const bool is_wanted = record.kind == RecordKind::kClear || HasPrefix(record.key);
  if (!is_wanted) {
    cursor.position += length;
    return Outcome::kGoOn;
  }
  if (record.kind == RecordKind::kSet) {
    const Outcome told = TellSet(shard_index, record, budget);
    if (told == Outcome::kGoOn) cursor.position += length;
    return told;
  }
  cursor.position += length;
  if (record.kind == RecordKind::kClear) {
    MeetClear(&cursor, record, budget);
  } else if (record.kind == RecordKind::kTombstone) {
    const uint8_t reason = record.flags >> format::kRecordReasonShift & format::kReasonMask;
    if (reason == format::kReasonAbsent) return Outcome::kGoOn;
    const ChangeKind kind = reason == format::kReasonExpired   ? ChangeKind::kExpired
                            : reason == format::kReasonEvicted ? ChangeKind::kEvicted
                                                               : ChangeKind::kDeleted;
    Tell(kind, record.key, {}, budget);
  }
  return Outcome::kGoOn;
}

Watching::Outcome Watching::TellSet(uint32_t shard_index, const format::RecordView& record, Budget* budget) {
  const bool after_expiry = (record.flags & format::kRecordAfterExpiry) != 0;
  if (record.runs.empty()) {
    if (after_expiry) Tell(ChangeKind::kExpired, record.key, {}, budget);
    Tell(ChangeKind::kSet, record.key, record.value, budget);
    return Outcome::kGoOn;
  }
  const uint64_t value_bytes = record.value_bytes();
  const std::unique_ptr<uint8_t, decltype(&std::free)> value(static_cast<uint8_t*>(std::malloc(value_bytes)),
                                                             std::free);
  if (value == nullptr) return Fail({Code::kValueTooLarge, "no memory for the value"}, budget);
  const uint64_t changes = context_.storage->SubstituteChanges();
  const uint64_t position = cursors_[shard_index].position;
  const Status status = ReadRuns(context_, record, position, value.get());
  const bool is_there = std::all_of(record.runs.begin(), record.runs.end(), [&](const format::RunReference& run) {
    format::EntryView view;
    return ReadRun(context_, run.unit, format::RunKind::kValue, &view) && view.incarnation == run.incarnation;
  });
  if (is_there && (context_.storage->HasSubstitutes() || context_.storage->SubstituteChanges() != changes)) {
    return Fail(Status::Io("a value could not be read", position), budget);
  }
  if (is_there && !status.ok()) return Fail(status, budget);
  if (after_expiry) Tell(ChangeKind::kExpired, record.key, {}, budget);
  if (!is_there) {
    // It has been replaced or dropped already, and its space is used again. What did that comes later.
    Tell(ChangeKind::kGap, {}, {}, budget);
  } else {
    std::copy(record.value.begin(), record.value.end(), value.get() + record.large.run_bytes);
    Tell(ChangeKind::kSet, record.key, {value.get(), value_bytes}, budget);
  }
  return Outcome::kGoOn;
}

// ───────────────────────────────────────────────────────────── clears

void Watching::MeetClear(Cursor* cursor, const format::RecordView& record, Budget* budget) {
  format::ClearValue value{};
  if (record.value.size() == sizeof value) std::memcpy(&value, record.value.data(), sizeof value);
  if (value.number == cursor->passed_clear && value.number != 0) return;  // its writer did not know that it was through
  // Begun before this watcher was, given up, or overtaken by another one in this shard and not in others.
  if (value.number <= old_clears_ || value.number < cursor->passed_clear) {
    return Tell(ChangeKind::kGap, {}, {}, budget);
  }
  cursor->passed_clear = value.number;
  cursor->clear_owner = value.owner;
  cursor->waits = true;
  if (clear_ != 0 && clear_ <= value.number) return;
  clear_ = value.number;
  clear_since_ns_ = 0;
  clear_owner_dead_ = false;
}

bool Watching::IsPassed(uint32_t shard_index, uint64_t number) const {
  const Cursor& cursor = cursors_[shard_index];
  return (HasQueue(cursor) ? cursor.passed_clear : context_.shard(shard_index).empty_clears.load(kAcquire)) >= number;
}

bool Watching::SettleClear(Budget* budget) {
  if (clear_ == 0) return false;
  bool all = true;
  for (uint32_t i = 0; i < context_.shards() && all; i++) all = IsPassed(i, clear_);
  if (all) {
    Tell(ChangeKind::kClear, {}, {}, budget);
    LeaveClear();
    return true;
  }
  const uint64_t now_ns = os::MonotonicNs();
  if (clear_since_ns_ == 0) clear_since_ns_ = now_ns;
  const auto waits = std::find_if(cursors_.begin(), cursors_.end(),
                                  [&](const Cursor& cursor) { return cursor.waits && cursor.passed_clear == clear_; });
  const bool given_up = now_ns - clear_since_ns_ > kClearNs;
  if (!given_up && !clear_owner_dead_) {
    // It may have come to its end before it died: all is looked at once more.
    clear_owner_dead_ = waits != cursors_.end() && IsHolderDead(context_, static_cast<uint32_t>(waits->clear_owner));
    if (clear_owner_dead_) SettleDead();
    return clear_owner_dead_;
  }
  // Some shards have been cleared and others have not.
  old_clears_ = clear_;
  Tell(ChangeKind::kGap, {}, {}, budget);
  LeaveClear();
  return true;
}

void Watching::LeaveClear() {
  const uint64_t left = clear_;
  clear_ = 0;
  clear_since_ns_ = 0;
  clear_owner_dead_ = false;
  for (Cursor& cursor : cursors_) {
    if (!cursor.waits) continue;
    cursor.waits = cursor.passed_clear > left;
    if (cursor.waits && (clear_ == 0 || cursor.passed_clear < clear_)) clear_ = cursor.passed_clear;
  }
}

// ───────────────────────────────────────────────────────────── what others should have done

void Watching::SettleDead() {
  if (context_.read_only) return;
  for (uint32_t i = 0; i < context_.shards(); i++) {
    const uint32_t holder = context_.shard(i).lock.load(std::memory_order_seq_cst);
    if (holder == 0 || !IsHolderDead(context_, holder)) continue;
    const ShardLock lock(context_, i);  // which settles it
  }
}

void Watching::SweepExpired() {
  if (context_.read_only || context_.storage->HasSubstitutes()) return;
  const uint64_t now_ms = NowMs(context_);
  for (uint32_t i = 0; i < context_.shards(); i++) {
    const ShardControl& shard = context_.shard(i);
    if (NeedsSweep(context_, i) && shard.lock.load(std::memory_order_relaxed) == 0) {
      const ShardLock lock(context_, i);
      bool progress;
      // A failure is for those to tell who read or write there.
      if (lock.status().ok()) static_cast<void>(Sweep(context_, i, kSweepPerWrite, /*patient=*/false, &progress));
    }
    const uint64_t earliest_ms = shard.earliest_expiry_ms.load(std::memory_order_relaxed);
    if (NeedsSweep(context_, i)) {
      wait_ms_ = std::min(wait_ms_, kSweepMs);
    } else if (earliest_ms > now_ms) {
      wait_ms_ = std::min(wait_ms_, earliest_ms - now_ms);
    }
  }
}

}  // namespace faultless::store
