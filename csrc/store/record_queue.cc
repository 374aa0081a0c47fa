#include "store/record_queue.h"

#include <bit>
#include <cstring>

#include "os/os.h"
#include "store/promise.h"
#include "store/shared_bytes.h"

namespace faultless::store {
namespace {

using format::EntryView;
using format::RecordHeader;
using format::RecordKind;
using format::RunKind;
using format::ShardControl;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr uint64_t kPrefaultBytes = 128 * 1024;
constexpr uint64_t kMarkBytes = sizeof(RecordHeader) + sizeof(format::MarkValue);
constexpr uint64_t kEndBytes = sizeof(RecordHeader);

/** Extents grow with the queue, so that a small store stays small and a large one wastes little at their ends. */
uint32_t ExtentClass(uint64_t live_bytes, uint64_t needed_bytes) {
  // The head extent is half empty on the average, and each other one ends before its end, by half a record.
  const uint64_t few_records = std::min(needed_bytes * 8, std::max(live_bytes / 4, needed_bytes * 4));
  const uint64_t wished = std::max(live_bytes / 32, few_records);
  uint32_t size_class = 0;
  while (size_class < format::kMaxQueueClass && RunBytes(size_class + 1) <= wished) size_class++;
  while (size_class < format::kMaxExtentClass && RunBytes(size_class) < needed_bytes) size_class++;
  return size_class;
}

uint32_t SmallestClass(uint64_t needed_bytes) {
  uint32_t size_class = 0;
  while (size_class < format::kMaxExtentClass && RunBytes(size_class) < needed_bytes) size_class++;
  return size_class;
}

/** Ends the head extent, so that recovery can tell its end from a record that was lost. */
void WriteEnd(const Context& context, const ShardControl& shard, uint64_t incarnation) {
  const uint64_t head = shard.head.load(kRelaxed);
  if (shard.head_end.load(kRelaxed) - head < kEndBytes) return;
  format::RecordView end;
  end.kind = RecordKind::kEnd;
  alignas(8) uint8_t bytes[kEndBytes];
  format::EncodeRecord(end, bytes);
  format::SealRecord(bytes, head, incarnation, context.superblock.hash_seed);
  CopyToShared(context.base + head, bytes, sizeof bytes);
}

/** Links a fresh extent as the head. */
Status LinkHead(const Context& context, uint32_t shard_index, uint64_t unit, const EntryView& extent) {
  ShardControl& shard = context.shard(shard_index);
  const uint64_t old_unit = shard.head_unit.load(kRelaxed);
  const uint64_t begin = unit * format::kUnitBytes;
  if (old_unit != 0) {
    EntryView old;
    if (!ReadRun(context, old_unit, RunKind::kQueue, &old)) {
      return Status::Corrupt("the head extent is none", context.OffsetOf(&shard.head_unit));
    }
    WriteEnd(context, shard, old.incarnation);
  }
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  if (old_unit != 0) {
    transaction.Set(context.entry(old_unit).next, unit);
    // Recovery ends an extent before its end: then the waste is noted already, and the head stands at the end.
    const uint64_t unused = shard.head_end.load(kRelaxed) - shard.head.load(kRelaxed);
    const uint64_t wasted = unused == 0 ? context.entry(old_unit).wasted_bytes.load(kRelaxed) : unused;
    transaction.Set(context.entry(old_unit).wasted_bytes, wasted);
    transaction.Add(shard.wasted_bytes, static_cast<int64_t>(wasted));
  } else {
    transaction.Set(shard.tail, begin);
    transaction.Set(shard.tail_unit, unit);
    transaction.Set(shard.tail_sequence, extent.sequence);
  }
  transaction.Set(shard.head, begin);
  transaction.Set(shard.head_end, begin + RunBytes(extent.size_class));
  transaction.Set(shard.head_unit, unit);
  transaction.Set(shard.head_sequence, extent.sequence);
  transaction.Add(shard.queue_bytes, static_cast<int64_t>(RunBytes(extent.size_class)));
  transaction.Set(shard.next_head_unit, 0);
  return transaction.Commit();
}

Status AppendMarkWithRoom(const Context& context, uint32_t shard_index) {
  ShardControl& shard = context.shard(shard_index);
  const uint64_t tail_sequence = shard.tail_sequence.load(kRelaxed);
  const QueuePlace promised = ReadPromise(context, shard_index);
  const uint64_t settled = context.header().settled_batches.load(std::memory_order_acquire);
  const format::MarkValue value{tail_sequence, promised.tail_sequence, promised.sequence, promised.position, settled};
  format::RecordView mark;
  mark.kind = RecordKind::kMark;
  mark.value = {reinterpret_cast<const uint8_t*>(&value), sizeof value};
  alignas(8) uint8_t bytes[kMarkBytes];
  format::EncodeRecord(mark, bytes);
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  const uint64_t position = Append(context, shard_index, bytes, sizeof bytes, &transaction);
  transaction.Set(shard.marked_tail_sequence, tail_sequence);
  transaction.Set(shard.marked_end, position + sizeof bytes);
  return transaction.Commit();
}

bool HasTailMoved(const ShardControl& shard) {
  return shard.tail_sequence.load(kRelaxed) != shard.marked_tail_sequence.load(kRelaxed);
}

}  // namespace

uint8_t* RecordScratch(Scratch which, uint64_t size) { return os::ThreadBuffer(static_cast<size_t>(which), size); }

Status PrefaultHead(const Context& context, uint32_t shard_index, uint64_t bytes) {
  const ShardControl& shard = context.shard(shard_index);
  const uint64_t head = shard.head.load(std::memory_order_acquire);
  const uint64_t end = shard.head_end.load(std::memory_order_acquire);
  auto& until = context.hints[shard_index].populated_until;
  const uint64_t populated = until.load(kRelaxed);
  // A new extent elsewhere shows as a head that is not within the stretch that was prefaulted last.
  if (head == 0 || end <= head || (head + bytes <= populated && populated - head <= kPrefaultBytes + bytes))
    return Code::kOk;
  const uint64_t stretch = std::min(end - head, kPrefaultBytes);
  if (!context.Contains(head, stretch)) return Code::kOk;  // a torn pair of words: the hint is of no use
  FAULTLESS_TRY(context.storage->PopulateWrite(head, stretch));
  until.store(head + stretch, kRelaxed);
  return Code::kOk;
}

namespace {

/** Whether `bytes` fit at the head. */
Status HasRoom(const Context& context, uint32_t shard_index, uint64_t bytes, bool* room) {
  const ShardControl& shard = context.shard(shard_index);
  *room = false;
  const uint64_t head = shard.head.load(kRelaxed);
  const uint64_t end = shard.head_end.load(kRelaxed);
  if (head != 0) {
    const uint64_t unit = shard.head_unit.load(kRelaxed);
    EntryView current;
    if (!ReadRun(context, unit, RunKind::kQueue, &current) || current.shard != shard_index ||
        current.sequence != shard.head_sequence.load(kRelaxed) || head % 8 != 0 || head < unit * format::kUnitBytes ||
        head > end || end != unit * format::kUnitBytes + RunBytes(current.size_class)) {
      return Status::Corrupt("the head of a queue is damaged", context.OffsetOf(&shard.head));
    }
    *room = end - head >= bytes;
  }
  return Code::kOk;
}

Status TakeHead(const Context& context, uint32_t shard_index, uint64_t needed, Purpose purpose, bool smallest = false) {
  ShardControl& shard = context.shard(shard_index);
  uint64_t unit = shard.next_head_unit.load(kRelaxed);
  EntryView extent;
  if (unit != 0 && (!ReadRun(context, unit, RunKind::kQueue, &extent) || extent.shard != shard_index ||
                    extent.sequence != shard.head_sequence.load(kRelaxed) + 1)) {
    return Status::Corrupt("the next extent is none", context.OffsetOf(&shard.next_head_unit));
  }
  if (unit != 0 && RunBytes(extent.size_class) < needed) {
    FAULTLESS_TRY(FreeRun(context, unit, {RunKind::kQueue, shard_index}, &shard.next_head_unit));
    unit = 0;
  }
  if (unit == 0) {
    uint32_t size_class = smallest ? SmallestClass(needed) : ExtentClass(shard.live_bytes.load(kRelaxed), needed);
    const RunRequest request{RunKind::kQueue, shard_index, shard.head_sequence.load(kRelaxed) + 1,
                             &shard.next_head_unit, nullptr};
    Status status = TakeRun(context, size_class, request, purpose, &unit);
    while (IsOutOfSpace(status) && size_class > 0 && RunBytes(size_class - 1) >= needed) {
      size_class--;
      status = TakeRun(context, size_class, request, purpose, &unit);
    }
    FAULTLESS_TRY(status);
    if (!ReadRun(context, unit, RunKind::kQueue, &extent)) {
      return Status::Corrupt("a fresh extent is none", context.OffsetOf(&shard.next_head_unit));
    }
  }
  const uint64_t begin = unit * format::kUnitBytes;
  const uint64_t stretch = std::min(RunBytes(extent.size_class), std::max(kPrefaultBytes, needed));
  FAULTLESS_TRY(context.storage->PopulateWrite(begin, stretch));
  FAULTLESS_TRY(LinkHead(context, shard_index, unit, extent));
  context.hints[shard_index].populated_until.store(begin + stretch, kRelaxed);
  return HasTailMoved(context.shard(shard_index)) ? AppendMarkWithRoom(context, shard_index) : Status();
}

}  // namespace

Status EraseUnfinished(const Context& context, uint32_t shard_index) {
  bool room;
  // A damaged head is for whoever appends to tell.
  if (!HasRoom(context, shard_index, sizeof(format::Word), &room).ok() || !room) return Code::kOk;
  const ShardControl& shard = context.shard(shard_index);
  const uint64_t head = shard.head.load(kRelaxed);
  const uint64_t end = shard.head_end.load(kRelaxed);
  if (!context.Contains(head, end - head)) return Code::kOk;
  const uint64_t incarnation = context.entry(shard.head_unit.load(kRelaxed)).incarnation.load(kRelaxed);
  // Of a batch there may be many, one behind the other. What an earlier use of the extent left does not bear its seal.
  std::vector<uint64_t> positions{head};
  for (uint64_t position = head; end - position >= sizeof(RecordHeader);) {
    FAULTLESS_TRY(context.storage->PopulateRead(position, sizeof(RecordHeader)));
    uint8_t header[sizeof(RecordHeader)];
    CopyFromShared(header, context.base + position, sizeof header);
    uint64_t first;
    std::memcpy(&first, header, sizeof first);
    const uint64_t length = format::RecordLength(first);
    if (length == 0 || length > end - position ||
        !format::VerifySeal(header, position, incarnation, context.superblock.hash_seed)) {
      break;
    }
    position += length;
    positions.push_back(position);
  }
  // From the last one on: who dies in between leaves the next one a way to those that are left.
  for (; !positions.empty(); positions.pop_back()) {
    const uint64_t position = positions.back();
    if (end - position < sizeof(format::Word)) continue;
    FAULTLESS_TRY(context.storage->PopulateRead(position, sizeof(format::Word)));
    // Where nothing is, a page need not become one that has to be written; a hole not one that takes space.
    if (context.WordAt(position).load(kRelaxed) != 0) {
      FAULTLESS_TRY(context.storage->PopulateWrite(position, sizeof(format::Word)));
      context.WordAt(position).store(0, std::memory_order_release);
    }
    if (context.storage->IsSubstituted(position, sizeof(format::Word))) {
      return Status::Io("the end of a queue could not be written", position);
    }
  }
  return Code::kOk;
}

Status EnsureRoom(const Context& context, uint32_t shard_index, uint64_t bytes, Purpose purpose, bool smallest) {
  bool room;
  FAULTLESS_TRY(HasRoom(context, shard_index, bytes, &room));
  return room ? Status() : TakeHead(context, shard_index, bytes + kMarkBytes, purpose, smallest);
}

Status UnitsForRoom(const Context& context, uint32_t shard_index, uint64_t bytes, uint64_t* units) {
  bool room;
  FAULTLESS_TRY(HasRoom(context, shard_index, bytes, &room));
  *units = room ? 0 : uint64_t{1} << SmallestClass(bytes + kMarkBytes);
  return Code::kOk;
}

Status BeginExtent(const Context& context, uint32_t shard_index, Purpose purpose) {
  bool room;
  FAULTLESS_TRY(HasRoom(context, shard_index, 0, &room));
  return TakeHead(context, shard_index, kMarkBytes, purpose);
}

uint64_t Append(const Context& context, uint32_t shard_index, uint8_t* record, uint64_t bytes,
                Transaction* transaction) {
  ShardControl& shard = context.shard(shard_index);
  const uint64_t position = shard.head.load(kRelaxed);
  const uint64_t incarnation = context.entry(shard.head_unit.load(kRelaxed)).incarnation.load(kRelaxed);
  format::SealRecord(record, position, incarnation, context.superblock.hash_seed);
  CopyToShared(context.base + position, record, bytes);
  transaction->Set(shard.head, position + bytes);
  return position;
}

Status AppendMark(const Context& context, uint32_t shard_index) {
  const ShardControl& shard = context.shard(shard_index);
  if (shard.head.load(kRelaxed) == 0) return Code::kOk;
  // Without the new tail in a mark nothing that waits for the flush may go. A mark for what was promised alone is worth
  // having, and nothing must fail for it, or be used up.
  const bool needed = HasTailMoved(shard);
  if (!needed && shard.head.load(kRelaxed) == shard.marked_end.load(kRelaxed)) return Code::kOk;
  const Status room = EnsureRoom(context, shard_index, kMarkBytes, needed ? Purpose::kFlush : Purpose::kUser);
  const bool refused =
      room.code() == Code::kStoreFull || room.code() == Code::kNoSpace || room.code() == Code::kWouldBlock;
  if (!needed && refused) return Code::kOk;
  FAULTLESS_TRY(room);
  // A fresh extent has got one. (The tail moves without anything being appended where all that it passes expires, or is
  // evicted.)
  if (!HasTailMoved(shard) && shard.head.load(kRelaxed) == shard.marked_end.load(kRelaxed)) return Code::kOk;
  return AppendMarkWithRoom(context, shard_index);
}

Status ReadRecordAt(const Context& context, uint64_t position, format::RecordView* record, uint64_t* bytes) {
  if (position % 8 != 0 || !context.Contains(position, sizeof(RecordHeader))) {
    return Status::Corrupt("a record lies outside the file", position);
  }
  const uint64_t length = format::RecordLength(context.WordAt(position).load(std::memory_order_acquire));
  if (length == 0 || !context.Contains(position, length)) return Status::Corrupt("no record begins here", position);
  uint8_t* const scratch = RecordScratch(Scratch::kRead, length);
  CopyFromShared(scratch, context.base + position, length);
  if (!format::DecodeRecord({scratch, length}, record) ||
      record->large.run_bytes > context.PublishedUnits() * format::kUnitBytes) {  // nobody allocates for what cannot be
    return Status::Corrupt("a record contradicts itself", position);
  }
  *bytes = length;
  return Code::kOk;
}

Status ReadSealedRecord(const Context& context, uint64_t position, uint64_t limit, uint64_t incarnation,
                        format::RecordView* record, uint64_t* bytes) {
  FAULTLESS_TRY(ReadRecordAt(context, position, record, bytes));
  if (limit - position < *bytes) return Status::Corrupt("a record crosses the end of its extent", position);
  const std::span<const uint8_t> raw{RecordScratch(Scratch::kRead, *bytes), *bytes};
  if (!format::VerifyChecksum(raw)) return Status::Corrupt("a record's checksum does not match", position);
  if (!format::VerifySeal(raw, position, incarnation, context.superblock.hash_seed)) {
    return Status::Corrupt("a record's seal does not match", position);
  }
  return Code::kOk;
}

Status MatchKey(const Context& context, uint64_t position, std::span<const uint8_t> key, RecordFacts* facts) {
  constexpr auto kAcquire = std::memory_order_acquire;
  if (position % 8 != 0 || !context.Contains(position, sizeof(RecordHeader))) {
    return Status::Corrupt("a record lies outside the file", position);
  }
  const uint64_t first = context.WordAt(position).load(kAcquire);
  const uint64_t length = format::RecordLength(first);
  if (length == 0 || !context.Contains(position, length) || format::RecordKindOf(first) != RecordKind::kSet) {
    return Status::Corrupt("no record begins here", position);
  }
  if (format::RecordKeyLength(first) != key.size()) return Code::kAbsent;
  *facts = RecordFacts{length, 0, 0};
  const uint8_t flags = format::RecordFlags(first);
  uint64_t at = sizeof(RecordHeader);
  if (flags & format::kRecordExpires) {
    if (at + 8 > length) return Status::Corrupt("a record contradicts itself", position);
    facts->expires_at_ms = context.WordAt(position + at).load(kAcquire);
    at += 8;
  }
  if (flags & format::kRecordUid) at += 8;
  if (flags & format::kRecordLarge) {
    if (at + sizeof(format::LargeHeader) > length) return Status::Corrupt("a record contradicts itself", position);
    facts->run_bytes = context.WordAt(position + at).load(kAcquire);
    const uint64_t runs = static_cast<uint32_t>(context.WordAt(position + at + 8).load(kAcquire));
    at += sizeof(format::LargeHeader) + runs * sizeof(format::RunReference);
  }
  if (at + key.size() > length) return Status::Corrupt("a record contradicts itself", position);
  const std::byte* const stored = context.base + position + at;  // 8-aligned: all that comes before is
  for (uint64_t i = 0; i < key.size(); i += 8) {
    const uint64_t part = std::min<uint64_t>(8, key.size() - i);
    const uint64_t word = __atomic_load_n(reinterpret_cast<const uint64_t*>(stored + i), __ATOMIC_ACQUIRE);
    if (std::memcmp(&word, key.data() + i, part) != 0) return Code::kAbsent;
  }
  return Code::kOk;
}

Status LeaveTailExtent(const Context& context, uint32_t shard_index, bool* moved) {
  ShardControl& shard = context.shard(shard_index);
  *moved = false;
  FAULTLESS_TRY(ReleaseRetired(context, shard_index));
  const uint64_t unit = shard.tail_unit.load(kRelaxed);
  if (unit == shard.head_unit.load(kRelaxed)) return Code::kOk;
  EntryView extent;
  EntryView next;
  if (!ReadRun(context, unit, RunKind::kQueue, &extent) || extent.shard != shard_index ||
      !ReadRun(context, extent.next, RunKind::kQueue, &next) || next.shard != shard_index ||
      next.sequence != extent.sequence + 1) {
    return Status::Corrupt("the queue's extents do not follow each other", context.OffsetOf(&shard.tail_unit));
  }
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  transaction.Set(shard.tail, extent.next * format::kUnitBytes);
  transaction.Set(shard.tail_unit, extent.next);
  transaction.Set(shard.tail_sequence, next.sequence);
  transaction.Add(shard.queue_bytes, -static_cast<int64_t>(RunBytes(extent.size_class)));
  transaction.Add(shard.wasted_bytes, -static_cast<int64_t>(context.entry(unit).wasted_bytes.load(kRelaxed)));
  transaction.Set(shard.retired_unit, unit);
  FAULTLESS_TRY(transaction.Commit());
  *moved = true;
  return ReleaseRetired(context, shard_index);
}

Status ReleaseRetired(const Context& context, uint32_t shard_index) {
  ShardControl& shard = context.shard(shard_index);
  const uint64_t unit = shard.retired_unit.load(kRelaxed);
  if (unit == 0) return Code::kOk;
  EntryView extent;
  if (ReadRun(context, unit, RunKind::kQueue, &extent) && extent.shard == shard_index &&
      extent.sequence >= shard.tail_sequence.load(kRelaxed)) {
    return Status::Corrupt("an extent to be released is part of the queue", context.OffsetOf(&shard.retired_unit));
  }
  if (IsPromised(context, shard_index, unit * format::kUnitBytes)) {
    return RetireRun(context, unit, {RunKind::kQueue, shard_index}, &shard.retired_unit);
  }
  return FreeRun(context, unit, {RunKind::kQueue, shard_index}, &shard.retired_unit);
}

bool IsPromised(const Context& context, uint32_t shard_index, uint64_t position) {
  if (!context.promises()) return false;
  const ShardControl& shard = context.shard(shard_index);
  const uint64_t promised = std::max(shard.flushed_sequence.load(kRelaxed), shard.flushing_sequence.load(kRelaxed));
  if (promised == 0) return false;
  for (uint32_t size_class = 0; size_class <= format::kMaxExtentClass; size_class++) {
    const uint64_t unit = UnitOf(position) & ~((uint64_t{1} << size_class) - 1);
    EntryView extent;
    if (ReadRun(context, unit, RunKind::kQueue, &extent) && extent.size_class >= size_class) {
      return extent.sequence <= promised;
    }
  }
  return true;  // not to be found: the careful answer
}

bool AreRunsPromised(const Context& context, uint32_t shard_index, uint64_t position,
                     const format::RecordView& record) {
  if ((record.flags & format::kRecordMoved) == 0) return IsPromised(context, shard_index, position);
  // Cleaning moves the reference only: what a flush promised may be an older copy of it, in an extent that has been
  // left.
  const ShardControl& shard = context.shard(shard_index);
  return context.promises() &&
         std::max(shard.flushed_sequence.load(kRelaxed), shard.flushing_sequence.load(kRelaxed)) != 0;
}

Status ReleaseRuns(const Context& context, std::span<const format::RunReference> runs, bool promised) {
  for (const format::RunReference& run : runs) {
    EntryView view;
    if (!ReadRun(context, run.unit, RunKind::kValue, &view) || view.incarnation != run.incarnation) continue;
    FAULTLESS_TRY(promised ? RetireRun(context, run.unit, {RunKind::kValue, kAnyShard, run.incarnation}, nullptr)
                           : FreeRun(context, run.unit, {RunKind::kValue, kAnyShard, run.incarnation}, nullptr));
  }
  return Code::kOk;
}

}  // namespace faultless::store
