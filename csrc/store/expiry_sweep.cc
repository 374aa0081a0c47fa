#include "store/expiry_sweep.h"

#include <algorithm>
#include <vector>

#include "base/hash.h"
#include "store/cleaner.h"
#include "store/clock.h"
#include "store/record_queue.h"

namespace faultless::store {
namespace {

using format::RecordKind;
using format::ShardControl;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr uint64_t kAsked = 1;  // in sweep_position
constexpr uint64_t kNever = ~uint64_t{0};

/** Where a look stands; stored back when a step ends. */
struct Look {
  uint64_t unit;
  uint64_t sequence;
  uint64_t position;
  uint64_t end;          // of the extent
  uint64_t earliest_ms;  // kNever: nothing that expires has been passed
  bool asked;
};

void Save(ShardControl& shard, const Look& look) {
  shard.sweep_sequence.store(look.sequence, kRelaxed);
  shard.sweep_position.store(look.position | (look.asked ? kAsked : 0), kRelaxed);
  shard.sweep_earliest_ms.store(look.earliest_ms == kNever ? 0 : look.earliest_ms, kRelaxed);
  shard.sweep_unit.store(look.unit, kRelaxed);
}

/** The extent that the look is in; false where there is none such in the queue. */
bool EnterExtent(const Context& context, uint32_t shard_index, Look* look) {
  const ShardControl& shard = context.shard(shard_index);
  format::EntryView extent;
  if (!ReadRun(context, look->unit, format::RunKind::kQueue, &extent) || extent.shard != shard_index ||
      extent.sequence != look->sequence || extent.sequence < shard.tail_sequence.load(kRelaxed) ||
      extent.sequence > shard.head_sequence.load(kRelaxed)) {
    return false;
  }
  const uint64_t begin = look->unit * format::kUnitBytes;
  look->end = begin + RunBytes(extent.size_class);
  return look->position % 8 == 0 && look->position >= begin && look->position <= look->end;
}

/** Where the last step ended, or the tail: cleaning may have passed that place, and what lived there stands at the head
 * now. */
Status Resume(const Context& context, uint32_t shard_index, Look* look) {
  const ShardControl& shard = context.shard(shard_index);
  const uint64_t place = shard.sweep_position.load(kRelaxed);
  const uint64_t earliest_ms = shard.sweep_earliest_ms.load(kRelaxed);
  *look = {shard.sweep_unit.load(kRelaxed),
           shard.sweep_sequence.load(kRelaxed),
           place & ~kAsked,
           0,
           earliest_ms == 0 ? kNever : earliest_ms,
           (place & kAsked) != 0};
  const uint64_t tail = shard.tail.load(kRelaxed);
  const bool in_tail = look->sequence == shard.tail_sequence.load(kRelaxed);
  if (look->unit != 0 && EnterExtent(context, shard_index, look) && (!in_tail || look->position >= tail)) {
    return Code::kOk;
  }
  if (look->unit == 0) look->earliest_ms = kNever;
  look->unit = shard.tail_unit.load(kRelaxed);
  look->sequence = shard.tail_sequence.load(kRelaxed);
  look->position = tail;
  look->asked = false;
  if (EnterExtent(context, shard_index, look)) return Code::kOk;
  return Status::Corrupt("the tail extent is none", context.OffsetOf(&shard.tail_unit));
}

/** What lies there has expired: takes it off the index where it is what its key has. */
Status Drop(const Context& context, uint32_t shard_index, uint64_t position, bool* dropped) {
  *dropped = false;
  format::RecordView record;
  uint64_t bytes;
  FAULTLESS_TRY(ReadRecordAt(context, position, &record, &bytes));
  const uint64_t hash = HashBytes(record.key.data(), record.key.size(), context.superblock.hash_seed);
  if (context.ShardOfHash(hash) != shard_index) return Code::kOk;
  IndexHit hit;
  const Status found = FindEntryOf(context, shard_index, hash, position, &hit);
  if (found.code() == Code::kAbsent) return Code::kOk;
  FAULTLESS_TRY(found);
  // Damage is for reads and verify() to tell of.
  if (!format::VerifyChecksum({RecordScratch(Scratch::kRead, bytes), bytes})) return Code::kOk;
  const std::vector<format::RunReference> runs(record.runs.begin(), record.runs.end());
  const bool promised = !runs.empty() && AreRunsPromised(context, shard_index, position, record);
  FAULTLESS_TRY(DropRecord(context, shard_index, hit, record, {hash, bytes, format::kReasonExpired}));
  *dropped = true;
  // What a release that fails here leaves behind is found again when the dead record is cleaned.
  if (!runs.empty()) static_cast<void>(ReleaseRuns(context, runs, promised));
  return Code::kOk;
}

/** Moves on to the extent behind this one; false where it is the head's. */
Status NextExtent(const Context& context, uint32_t shard_index, Look* look, bool* more) {
  *more = look->sequence != context.shard(shard_index).head_sequence.load(kRelaxed);
  if (!*more) return Code::kOk;
  const uint64_t from = look->unit;
  look->unit = context.entry(from).next.load(kRelaxed);
  look->sequence++;
  look->position = look->unit * format::kUnitBytes;
  look->asked = false;
  if (look->unit != 0 && EnterExtent(context, shard_index, look)) return Code::kOk;
  return Status::Corrupt("a queue is broken off", context.OffsetOf(&context.entry(from).next));
}

/** Whether what the step reads first is in memory; asks the kernel for it where not. */
bool IsAtHand(const Context& context, const Look& look, uint64_t bytes) {
  Storage& storage = *context.storage;
  if (!storage.residency_known()) return true;
  const uint64_t stretch = std::min(bytes, look.end - look.position);
  if (stretch == 0 || storage.IsResident(look.position, stretch)) return true;
  storage.WillNeed(look.position, stretch);
  return false;
}

/** Looks at records until the budget is spent (*over stays false) or the head is reached. */
Status Walk(const Context& context, uint32_t shard_index, SweepBudget budget, Look* look, bool* over, bool* progress) {
  const ShardControl& shard = context.shard(shard_index);
  const uint64_t now_ms = NowMs(context);
  while (budget.scanned_records > 0 && budget.scanned_bytes > 0 && budget.dropped_records > 0) {
    const bool in_head = look->sequence == shard.head_sequence.load(kRelaxed);
    const bool at_end = look->end - look->position < sizeof(format::RecordHeader);
    const uint64_t first = at_end ? 0 : context.WordAt(look->position).load(kRelaxed);
    if ((in_head && look->position >= shard.head.load(kRelaxed)) || at_end ||
        format::RecordKindOf(first) == RecordKind::kEnd) {
      bool more;
      FAULTLESS_TRY(NextExtent(context, shard_index, look, &more));
      *over = !more;
      if (!more) return Code::kOk;
      continue;
    }
    const uint64_t length = format::RecordLength(first);
    if (length == 0 || length > look->end - look->position) {
      return Status::Corrupt("a record has no length", look->position);
    }
    if (format::RecordKindOf(first) == RecordKind::kSet && (format::RecordFlags(first) & format::kRecordExpires) != 0) {
      if (length < sizeof(format::RecordHeader) + sizeof(uint64_t)) {
        return Status::Corrupt("a record contradicts itself", look->position);
      }
      const uint64_t expires_at_ms = context.WordAt(look->position + sizeof(format::RecordHeader)).load(kRelaxed);
      bool dropped = false;
      if (expires_at_ms <= now_ms)
        FAULTLESS_TRY(Drop(context, shard_index, look->position, &dropped));
      else
        look->earliest_ms = std::min(look->earliest_ms, expires_at_ms);
      if (dropped) budget.dropped_records--;
      *progress = *progress || dropped;
    }
    look->position += length;
    budget.scanned_records--;
    budget.scanned_bytes -= std::min(budget.scanned_bytes, length);
  }
  return Code::kOk;
}

}  // namespace

bool NeedsSweep(const Context& context, uint32_t shard_index) {
  const ShardControl& shard = context.shard(shard_index);
  const uint64_t earliest_ms = shard.earliest_expiry_ms.load(kRelaxed);
  if (earliest_ms == 0 || shard.head.load(kRelaxed) == 0) return false;
  return shard.sweep_unit.load(kRelaxed) != 0 || earliest_ms <= NowMs(context);
}

Status Sweep(const Context& context, uint32_t shard_index, SweepBudget budget, bool patient, bool* progress) {
  ShardControl& shard = context.shard(shard_index);
  *progress = false;
  Look look;
  FAULTLESS_TRY(Resume(context, shard_index, &look));
  // Once it has been asked for it is waited for: where memory is short it would never be there.
  if (!patient && !look.asked && !IsAtHand(context, look, budget.scanned_bytes)) {
    look.asked = true;
    Save(shard, look);
    return Code::kOk;
  }
  look.asked = false;
  bool over = false;
  const Status status = Walk(context, shard_index, budget, &look, &over, progress);
  if (!over) {
    Save(shard, look);
    *progress = *progress || status.ok();
    return status;
  }
  // All that expires stands behind the tail, and has been passed: what came meanwhile came to the head.
  shard.earliest_expiry_ms.store(look.earliest_ms == kNever ? 0 : look.earliest_ms, kRelaxed);
  shard.sweep_unit.store(0, kRelaxed);
  return Code::kOk;
}

}  // namespace faultless::store
