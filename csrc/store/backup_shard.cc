#include "store/backup_shard.h"

#include "base/checksum.h"
#include "base/hash.h"
#include "store/clock.h"
#include "store/index.h"
#include "store/record_queue.h"
#include "store/shared_bytes.h"
#include "store/verify_moment.h"

namespace faultless::store {
namespace {

using format::EntryView;
using format::RecordKind;
using format::RecordView;
using format::RunKind;

constexpr uint64_t kPageBytes = 4096;

}  // namespace

ShardBackup::ShardBackup(const Context& context, uint32_t shard_index, BackupTarget* target)
    : context_(context), shard_index_(shard_index), shard_(context.shard(shard_index)), target_(target) {}

void ShardBackup::BeginRound(const ShardCut& cut) {
  cut_ = cut;
  at_cut_ = cut.head == 0;
}

Status ShardBackup::Step() {
  if (!values_.empty()) return CopyValue();
  if (at_cut_) return Code::kOk;
  if (unit_ == 0) {
    covered_from_ = cut_.tail_sequence;
    return Enter(cut_.tail_unit, cut_.tail_sequence, context_.OffsetOf(&shard_.tail_unit));
  }
  // It was gone when it was looked for, and a lock kept from being told where the tail is.
  if (!entered_) return LeaveForTail(false);
  return CopyExtent();
}

bool ShardBackup::IsStillQueued() const {
  return shard_.tail_sequence.load(std::memory_order_acquire) <= extent_.sequence;
}

Status ShardBackup::Enter(uint64_t unit, uint64_t sequence, uint64_t link_offset) {
  EntryView view{};
  const bool found = ReadRun(context_, unit, RunKind::kQueue, &view) && view.shard == shard_index_ &&
                     view.sequence == sequence && view.size_class <= format::kMaxExtentClass;
  entered_ = found;
  unit_ = unit;
  extent_ = view;
  extent_.sequence = sequence;
  position_ = unit * format::kUnitBytes;
  extent_over_ = false;
  if (found) {
    context_.storage->WillNeed(position_, RunBytes(view.size_class));
    return Code::kOk;
  }
  if (!IsStillQueued()) return LeaveForTail(false);
  return Status::Corrupt("the extents of a queue do not follow each other",
                         PlaceOfBadLink(context_, link_offset, unit));
}

Status ShardBackup::Leave() {
  const format::Word& link = context_.entry(unit_).next;
  const uint64_t next = link.load(std::memory_order_acquire);
  if (!IsStillQueued()) return LeaveForTail(true);
  return Enter(next, extent_.sequence + 1, context_.OffsetOf(&link));
}

/** Cleaning was faster: what lived in the extents that are gone has been appended again. */
Status ShardBackup::LeaveForTail(bool copied_all) {
  uint64_t unit = 0;
  uint64_t sequence = 0;
  FAULTLESS_TRY(AtOneMoment(context_, shard_index_, [&](const Memory& memory) -> Status {
    unit = memory.Load(context_.OffsetOf(&shard_.tail_unit));
    sequence = memory.Load(context_.OffsetOf(&shard_.tail_sequence));
    return Code::kOk;
  }));
  if (sequence <= extent_.sequence) return Code::kWouldBlock;  // seen through a dead writer's intent: the same again
  if (!copied_all || sequence != extent_.sequence + 1) covered_from_ = sequence;
  if (sequence > cut_.head_sequence) at_cut_ = true;
  return Enter(unit, sequence, context_.OffsetOf(&shard_.tail_unit));
}

Status ShardBackup::CopyExtent() {
  const uint64_t begin = unit_ * format::kUnitBytes;
  const uint64_t extent_end = begin + RunBytes(extent_.size_class);
  const bool last = extent_.sequence == cut_.head_sequence;
  if (last && (cut_.head % 8 != 0 || cut_.head < begin || cut_.head > extent_end)) {
    return Status::Corrupt("the head of a queue is damaged", context_.OffsetOf(&shard_.head));
  }
  if (extent_.sequence > cut_.head_sequence) {
    at_cut_ = true;
    return Code::kOk;
  }
  const uint64_t limit = last ? cut_.head : extent_end;
  uint64_t position = position_;
  bool over = extent_over_;
  // One request for all of it instead of a fault per page. A page that is not to be had shows at its record.
  if (!over && position < limit) static_cast<void>(context_.storage->PopulateRead(position, limit - position));
  while (!over && limit - position >= sizeof(format::RecordHeader)) {
    RecordView record;
    uint64_t bytes = 0;
    const uint64_t changes = context_.storage->SubstituteChanges();
    const Status valid = ReadSealedRecord(context_, position, limit, extent_.incarnation, &record, &bytes);
    const uint64_t length = std::max<uint64_t>(bytes, sizeof(format::RecordHeader));
    const ReadResult read = WhatWasRead(context_, changes, position, length);
    if (read == ReadResult::kReadAgain) continue;
    if (!valid.ok() || read == ReadResult::kMissing) {
      if (!IsStillQueued()) {
        values_.clear();
        return LeaveForTail(false);
      }
      return read == ReadResult::kMissing ? Status::Io("a record cannot be read", position) : valid;
    }
    FAULTLESS_TRY(VisitRecord(record, position));
    over = record.kind == RecordKind::kEnd;
    position += bytes;
  }
  if (last && !over && position != limit && limit != extent_end) {
    return Status::Corrupt("the head of a queue is damaged", context_.OffsetOf(&shard_.head));
  }
  if (position != position_) {
    // Its unit may have been another run's for long, and in the target as well: that is not to be cleared.
    if (!IsStillQueued()) {
      values_.clear();
      return LeaveForTail(false);
    }
    // Where the extent is over its page is filled up: whole blocks can be shared.
    const uint64_t end = over ? (position + kPageBytes - 1) & ~(kPageBytes - 1) : position;
    FAULTLESS_TRY(CopyStretch(end));
    if (!IsStillQueued()) {
      values_.clear();
      return LeaveForTail(false);
    }
    if (!target_->Holds(unit_, extent_)) target_->Note(unit_, extent_);
    copied_bytes_ += position - position_;
    position_ = position;
  }
  extent_over_ = over || !last;
  if (!last) return Leave();
  at_cut_ = true;
  return Code::kOk;
}

Status ShardBackup::CopyStretch(uint64_t end) {
  const auto copy = [&](bool* of_source) -> Status {
    if (!target_->Holds(unit_, extent_)) FAULTLESS_TRY(target_->Prepare(unit_, extent_.size_class));
    return target_->Copy(position_, end - position_, !context_.read_only, of_source);
  };
  bool of_source = false;
  const Status copied = copy(&of_source);
  failed_at_target_ = !copied.ok() && !of_source;
  // Then the caller finds out the same.
  return of_source && !IsStillQueued() ? Status() : copied;
}

Status ShardBackup::VisitRecord(const RecordView& record, uint64_t position) {
  if (record.kind == RecordKind::kClear) {
    lost_.clear();
    values_.clear();
  }
  if (record.kind != RecordKind::kSet && record.kind != RecordKind::kTombstone) return Code::kOk;
  const uint64_t hash = HashBytes(record.key.data(), record.key.size(), context_.superblock.hash_seed);
  if (context_.ShardOfHash(hash) != shard_index_)
    return Status::Corrupt("a record is in another shard's queue", position);
  // Whatever the key had before is dead at the cut.
  lost_.erase(hash);
  values_.erase(hash);
  expiring_ = expiring_ || record.expires_at_ms != 0;
  if (record.kind == RecordKind::kTombstone || record.runs.empty() || IsExpired(context_, record.expires_at_ms))
    return Code::kOk;
  Value& value = values_[hash];
  value.sequence = extent_.sequence;
  value.position = position;
  value.expires_at_ms = record.expires_at_ms;
  value.checksum = record.large.value_checksum;
  value.runs.assign(record.runs.begin(), record.runs.end());
  return Code::kOk;
}

bool ShardBackup::IsThere(const format::RunReference& run, EntryView* view) const {
  return ReadRun(context_, run.unit, RunKind::kValue, view) && view->incarnation == run.incarnation &&
         view->size_class == run.size_class && view->size_class <= format::kMaxQueueClass;
}

void ShardBackup::Lose(uint64_t hash, Loss loss, Status why) {
  auto value = values_.extract(hash);
  value.mapped().loss = loss;
  value.mapped().why = why;
  value.mapped().run = 0;
  value.mapped().crc = 0;
  lost_.insert(std::move(value));
}

/** One run of a value. */
Status ShardBackup::CopyValue() {
  const auto found = values_.begin();
  const uint64_t hash = found->first;
  Value& value = found->second;
  EntryView view;
  if (value.run == 0) {
    // Cleaning appends the reference again, and the runs stay where they are.
    const bool held = std::all_of(value.runs.begin(), value.runs.end(), [&](const format::RunReference& run) {
      return IsThere(run, &view) && target_->Holds(run.unit, view);
    });
    if (held || IsExpired(context_, value.expires_at_ms)) {
      values_.erase(found);
      return Code::kOk;
    }
  }
  const format::RunReference& run = value.runs[value.run];
  const auto lose_gone = [&] {
    const bool named = context_.ContainsRun(run.unit, 0);
    const uint64_t place = named ? context_.OffsetOf(&context_.entry(run.unit)) : value.position;
    Lose(hash, Loss::kGone, Status::Corrupt("a value's run is not what its record says", place));
    return Status();
  };
  if (!IsThere(run, &view)) return lose_gone();
  bool missing = false;
  FAULTLESS_TRY(CopyRun(run, view, &value.crc, &missing));
  if (!IsThere(run, &view)) return lose_gone();
  if (missing) {
    Lose(hash, Loss::kDamaged, Status::Io("a value cannot be read", uint64_t{run.unit} * format::kUnitBytes));
    return Code::kOk;
  }
  target_->Note(run.unit, view);
  copied_bytes_ += RunBytes(run.size_class);
  if (++value.run < value.runs.size()) return Code::kOk;
  if (value.crc == value.checksum) {
    values_.erase(found);
  } else {
    Lose(hash, Loss::kDamaged, Status::Corrupt("a value's checksum does not match", value.position));
  }
  return Code::kOk;
}

Status ShardBackup::CopyRun(const format::RunReference& run, const EntryView& view, uint32_t* crc, bool* missing) {
  const uint64_t begin = uint64_t{run.unit} * format::kUnitBytes;
  const uint64_t length = RunBytes(view.size_class);
  static_cast<void>(context_.storage->PopulateRead(begin, length));
  for (uint64_t at = 0; at < length;) {
    const uint64_t changes = context_.storage->SubstituteChanges();
    CopyFromShared(piece_.data(), context_.base + begin + at, piece_.size());
    const ReadResult read = WhatWasRead(context_, changes, begin + at, piece_.size());
    if (read == ReadResult::kReadAgain) continue;
    if (read == ReadResult::kMissing) {
      *missing = true;
      return Code::kOk;
    }
    *crc = Crc32c(*crc, piece_.data(), piece_.size());
    at += piece_.size();
  }
  const auto copy = [&](bool* of_source) -> Status {
    FAULTLESS_TRY(target_->Prepare(run.unit, view.size_class));
    return target_->Copy(begin, length, !context_.read_only, of_source);
  };
  bool of_source = false;
  const Status copied = copy(&of_source);
  failed_at_target_ = !copied.ok() && !of_source;
  *missing = of_source;
  return of_source ? Status() : copied;
}

Status ShardBackup::LookAt(uint64_t hash, const Value& value, bool* live, bool* there) const {
  return AtOneMoment(context_, shard_index_, [&](const Memory& memory) -> Status {
    const Status found = Probe(
        memory, shard_, format::TagOf(hash), format::FingerprintOf(hash), NeverStop,
        [&](const IndexHit& hit) -> Status { return hit.position == value.position ? Code::kOk : Code::kAbsent; });
    // Behind the tail the place may be another extent's by now, with a younger record of the same key.
    *live = found.ok() && value.sequence >= memory.Load(context_.OffsetOf(&shard_.tail_sequence));
    *there = std::all_of(value.runs.begin(), value.runs.end(), [&](const format::RunReference& run) {
      EntryView view;
      return IsThere(run, &view);
    });
    return found.code() == Code::kAbsent ? Status() : found;
  });
}

Status ShardBackup::EndRound(bool* whole) {
  *whole = cut_.head == 0 || covered_from_ <= cut_.tail_sequence;
  for (auto at = lost_.begin(); at != lost_.end();) {
    const auto next = std::next(at);
    Value& value = at->second;
    // Cleaning drops what has expired, and what it has passed, without a trace.
    if (value.sequence < cut_.tail_sequence || IsExpired(context_, value.expires_at_ms)) {
      lost_.erase(at);
      at = next;
      continue;
    }
    *whole = false;
    bool live = false;
    bool there = false;
    const Status looked = LookAt(at->first, value, &live, &there);
    if (looked.code() == Code::kIo) return value.why;
    FAULTLESS_TRY(looked);
    // A live record keeps its runs, and they their bytes. One that is dead by now has a younger one behind the cut.
    if (live && (!there || value.loss == Loss::kDamaged)) return value.why;
    if (live) values_.insert(lost_.extract(at));
    at = next;
  }
  return Code::kOk;
}

}  // namespace faultless::store
