#include "store/verify_shard.h"

#include <optional>

#include "base/checksum.h"
#include "base/hash.h"
#include "os/os.h"
#include "store/clock.h"
#include "store/index.h"
#include "store/record_queue.h"
#include "store/shared_bytes.h"

namespace faultless::store {
namespace {

using format::EntryView;
using format::kEntriesPerLine;
using format::RecordKind;
using format::RecordView;
using format::RunKind;

constexpr uint64_t kBytesPerStep = 256 * 1024;
constexpr uint64_t kRecordsPerStep = 1024;
constexpr uint64_t kValueBytesPerStep = 1024 * 1024;
constexpr int kMaxExtensions = 16;

}  // namespace

ShardVerification::ShardVerification(const Context& context, uint32_t shard_index, Findings* findings)
    : context_(context), shard_index_(shard_index), shard_(context.shard(shard_index)), findings_(findings) {}

Status ShardVerification::Step() {
  const auto step = [&]() -> Status {
    switch (phase_) {
      case Phase::kBegin:
        return Begin();
      case Phase::kWalk:
        return value_.position != 0 ? ReadValue() : Walk();
      case Phase::kIndex:
        return CheckSegment();
      case Phase::kFreePieces:
        return CheckFreePieces();
      case Phase::kEnd:
        return End();
      case Phase::kDone:
        return Code::kOk;
    }
    return Code::kOk;
  };
  const Status status = step();
  if (status.ok() || status.code() == Code::kWouldBlock) return status;
  // The shard's own words are damaged, or cannot be read: nothing of it can be told.
  findings_->Damaged(status, context_.OffsetOf(&shard_));
  findings_->unseen_shards[shard_index_] = true;
  phase_ = Phase::kDone;
  return Code::kOk;
}

Status ShardVerification::ReadWords(Words* words) const {
  const uint64_t place = context_.OffsetOf(&shard_);
  if (WhatWasRead(context_, 0, place, sizeof shard_) == ReadResult::kMissing) {
    return Status::Io("the control region cannot be read", place);
  }
  const Status status = AtOneMoment(context_, shard_index_, [&](const Memory& memory) -> Status {
    const auto load = [&](const format::Word& word) { return memory.Load(context_.OffsetOf(&word)); };
    *words = {shard_.commits.load(std::memory_order_acquire),
              load(shard_.directory),
              load(shard_.head),
              load(shard_.head_end),
              load(shard_.head_unit),
              load(shard_.head_sequence),
              load(shard_.tail),
              load(shard_.tail_unit),
              load(shard_.tail_sequence),
              load(shard_.keys),
              load(shard_.live_bytes),
              load(shard_.queue_bytes),
              load(shard_.value_bytes),
              load(shard_.wasted_bytes),
              load(shard_.clear_sequence),
              load(shard_.clear_position)};
    return Code::kOk;
  });
  return status.code() == Code::kIo ? Status() : status;  // another page is missing, none of these words'
}

// ───────────────────────────────────────────────────────────── the queue

Status ShardVerification::Begin() {
  if (!context_.read_only) {
    const ShardLock lock(context_, shard_index_);  // settles what a dead writer left
    FAULTLESS_TRY(lock.status());
  }
  Words words;
  FAULTLESS_TRY(ReadWords(&words));
  found_before_ = findings_->count();
  if (words.head == 0) {
    // No walk will come to an end, so what is pending is noted here; a first record may have been written meanwhile.
    FAULTLESS_TRY(ReferToPending());
    FAULTLESS_TRY(ReadWords(&words));
  }
  commits_before_ = words.commits;
  clear_before_ = {words.clear_sequence, words.clear_position};
  if (words.head == 0) {
    phase_ = Phase::kIndex;
    return Code::kOk;
  }
  phase_ = Phase::kWalk;
  return StartWalk(words);
}

Status ShardVerification::StartWalk(const Words& words) {
  end_ = {words.head_sequence, words.head};
  return EnterExtent(words.tail_unit, words.tail_sequence, context_.OffsetOf(&shard_.tail_unit));
}

Status ShardVerification::EnterExtent(uint64_t unit, uint64_t sequence, uint64_t link_offset) {
  EntryView view;
  const bool found = ReadRun(context_, unit, RunKind::kQueue, &view) && view.shard == shard_index_ &&
                     view.sequence == sequence && view.size_class <= format::kMaxExtentClass;
  unit_ = unit;
  sequence_ = sequence;
  if (!found) {
    if (!IsStillQueued()) return LeaveExtent();
    findings_->Damaged(PlaceOfBadLink(context_, link_offset, unit), "the extents of a queue do not follow each other");
    broken_ = true;
    return EndWalk();
  }
  incarnation_ = view.incarnation;
  position_ = unit * format::kUnitBytes;
  extent_end_ = position_ + RunBytes(view.size_class);
  context_.storage->WillNeed(position_, extent_end_ - position_);
  return Code::kOk;
}

bool ShardVerification::IsStillQueued() const {
  return shard_.tail_sequence.load(std::memory_order_acquire) <= sequence_;
}

Status ShardVerification::LeaveExtent() {
  Words words;
  FAULTLESS_TRY(ReadWords(&words));
  if (words.tail_sequence > sequence_) {
    // Cleaning was faster. What it has moved stands further on, before the head of now: the end of the walk is there at
    // least.
    if (catching_up_ && ++extended_ <= kMaxExtensions) end_ = {words.head_sequence, words.head};
    if (extended_ > kMaxExtensions) findings_->unseen_shards[shard_index_] = true;
    if (words.tail_sequence > end_.sequence) return EndWalk();
    return EnterExtent(words.tail_unit, words.tail_sequence, context_.OffsetOf(&shard_.tail_unit));
  }
  if (sequence_ >= end_.sequence) return EndWalk();
  const format::Word& next = context_.entry(unit_).next;
  const uint64_t unit = next.load(std::memory_order_acquire);
  if (!IsStillQueued()) return Code::kWouldBlock;  // by now: the same again finds it out
  return EnterExtent(unit, sequence_ + 1, context_.OffsetOf(&next));
}

/**
 * A run that is older than the verification hangs on a chain now, or some record before the head of any later moment
 * refers to it, or it is released: runs get onto a chain only when they are taken.
 */
Status ShardVerification::ReferToPending() {
  std::optional<AllocatorLock> lock;
  for (uint32_t slot = 0; slot < format::kOpenerSlots; slot++) {
    for (const format::Word& chain : context_.pending(slot).chains) {
      if (chain.load(std::memory_order_acquire) == 0) continue;
      if (!context_.read_only && !lock) {
        // Nothing is put onto a chain or taken off it meanwhile; a record may take all of it over at any time.
        lock.emplace(context_);
        if (lock->status().code() == Code::kWouldBlock) return lock->status();
      }
      bool followed = false;
      for (int attempt = 0; !followed && attempt < (lock ? 1 : kMomentAttempts); attempt++) {
        followed = (!lock || lock->status().ok()) && FollowPending(chain);
      }
      if (!followed) findings_->unseen_shards[shard_index_] = true;
    }
  }
  return Code::kOk;
}

/** False where the chain has changed meanwhile, or is damaged. */
bool ShardVerification::FollowPending(const format::Word& chain) {
  const uint64_t changes = context_.storage->SubstituteChanges();
  const uint64_t first = chain.load(std::memory_order_acquire);
  uint64_t unit = first;
  EntryView first_view;
  EntryView view;
  for (uint64_t i = 0; unit != 0; i++) {
    if (i == format::kMaxRuns || !ReadRun(context_, unit, RunKind::kValue, &view)) return false;
    if (i == 0) first_view = view;
    findings_->Refer(unit);
    unit = view.next;
  }
  // What hangs below a run stays the same as long as this use of it hangs there.
  return context_.storage->SubstituteChanges() == changes && !context_.storage->HasSubstitutes() &&
         (first == 0 || !context_.read_only ||
          (chain.load(std::memory_order_acquire) == first && ReadRun(context_, first, RunKind::kValue, &view) &&
           view.incarnation == first_view.incarnation));
}

Status ShardVerification::EndWalk() {
  if (!catching_up_ && !broken_) {
    // From here on only the pending runs of later writes are unknown. What has been written meanwhile is walked as
    // well, up to here.
    FAULTLESS_TRY(ReferToPending());
    Words words;
    FAULTLESS_TRY(ReadWords(&words));
    catching_up_ = true;
    if (words.head_sequence == end_.sequence) {
      end_.position = words.head;
      return Code::kOk;
    }
    end_ = {words.head_sequence, words.head};
    // The extent may have been ended meanwhile: on from where the walk stands.
    return Code::kOk;
  }
  if (broken_) findings_->unseen_shards[shard_index_] = true;
  phase_ = Phase::kIndex;
  return Code::kOk;
}

void ShardVerification::Resynchronize(uint64_t limit) {
  last_damage_ = {sequence_, position_};
  for (position_ += 8; limit - position_ >= sizeof(format::RecordHeader); position_ += 8) {
    const uint64_t header[2] = {context_.WordAt(position_).load(std::memory_order_acquire),
                                context_.WordAt(position_ + 8).load(std::memory_order_acquire)};
    const uint64_t length = format::RecordLength(header[0]);
    if (length == 0 || length > limit - position_) continue;
    // The seal is cheap, and says nearly all.
    const std::span<const uint8_t> raw{reinterpret_cast<const uint8_t*>(header), sizeof header};
    if (!format::VerifySeal(raw, position_, incarnation_, context_.superblock.hash_seed)) continue;
    RecordView record;
    uint64_t bytes;
    if (ReadSealedRecord(context_, position_, limit, incarnation_, &record, &bytes).ok()) return;
  }
}

Status ShardVerification::Walk() {
  uint64_t bytes_left = kBytesPerStep;
  for (uint64_t i = 0; i < kRecordsPerStep && bytes_left > 0 && phase_ == Phase::kWalk && value_.position == 0; i++) {
    const bool last = sequence_ == end_.sequence;
    if (last && (end_.position % 8 != 0 || UnitOf(end_.position) < unit_ || end_.position > extent_end_)) {
      findings_->Damaged(context_.OffsetOf(&shard_.head), "the head of a queue is damaged");
      end_.position = extent_end_;
    }
    const uint64_t limit = last ? end_.position : extent_end_;
    if (last && position_ >= limit) return EndWalk();
    if (limit - position_ < sizeof(format::RecordHeader)) return LeaveExtent();
    const uint64_t stretch = std::min(limit - position_, kBytesPerStep);
    if (position_ % kBytesPerStep == 0) static_cast<void>(context_.storage->PopulateRead(position_, stretch));
    RecordView record;
    uint64_t bytes = 0;
    const uint64_t changes = context_.storage->SubstituteChanges();
    const Status valid = ReadSealedRecord(context_, position_, limit, incarnation_, &record, &bytes);
    const uint64_t length = std::max<uint64_t>(bytes, sizeof(format::RecordHeader));
    const ReadResult read = WhatWasRead(context_, changes, position_, length);
    if (read == ReadResult::kReadAgain) continue;
    if (read == ReadResult::kMissing) {
      findings_->Damaged(position_, "a record cannot be read");
      findings_->unseen_shards[shard_index_] = true;
      position_ = std::min(limit, (position_ / os::PageSize() + 1) * os::PageSize()) - 8;
      Resynchronize(limit);
      continue;
    }
    if (!IsStillQueued()) return LeaveExtent();
    if (!valid.ok()) {
      findings_->Damaged(position_, valid.message());
      findings_->unseen_shards[shard_index_] = true;
      Resynchronize(limit);
      bytes_left = 0;
      continue;
    }
    if (record.kind == RecordKind::kEnd) {
      const format::Word& wasted = context_.entry(unit_).wasted_bytes;
      const bool right = wasted.load(std::memory_order_acquire) == extent_end_ - position_;
      // The head's waste is noted when the next extent is linked.
      if (!right && !last && IsStillQueued()) {
        findings_->Damaged(context_.OffsetOf(&wasted), "the waste of an extent is not what is there");
      }
      if (last)
        position_ = limit;
      else
        return LeaveExtent();
      continue;
    }
    const Order order{sequence_, position_};
    if (record.kind == RecordKind::kSet || record.kind == RecordKind::kTombstone) {
      const uint64_t hash = HashBytes(record.key.data(), record.key.size(), context_.superblock.hash_seed);
      if (context_.ShardOfHash(hash) != shard_index_) {
        findings_->Damaged(position_, "a record is in another shard's queue");
      } else if (record.kind == RecordKind::kTombstone) {
        missing_.erase(hash);
      } else {
        FAULTLESS_TRY(VisitSet(order, record, bytes));
      }
    }
    if (record.kind == RecordKind::kClear) missing_.clear();
    bytes_left -= std::min(bytes_left, bytes);
    walked_bytes_ += bytes;
    findings_->records++;
    findings_->bytes += bytes;
    position_ += bytes;
  }
  return Code::kOk;
}

Status ShardVerification::Judge(const Order& order, std::span<const uint8_t> key, uint64_t hash,
                                Judgement* judgement) const {
  return AtOneMoment(context_, shard_index_, [&](const Memory& memory) -> Status {
    *judgement = Judgement{};
    const Order clear{memory.Load(context_.OffsetOf(&shard_.clear_sequence)),
                      memory.Load(context_.OffsetOf(&shard_.clear_position))};
    if (order < clear) {
      judgement->standing = Standing::kSuperseded;
      return Code::kOk;
    }
    bool doubtful = false;
    IndexHit hit;
    const Status found = Probe(memory, shard_, format::TagOf(hash), format::FingerprintOf(hash), NeverStop,
                               [&](const IndexHit& entry) -> Status {
                                 RecordFacts facts;
                                 const Status matched = MatchKey(context_, entry.position, key, &facts);
                                 if (matched.ok()) hit = entry;
                                 if (matched.ok() || matched.code() == Code::kAbsent) return matched;
                                 doubtful = true;  // the index is looked at later
                                 return Code::kAbsent;
                               });
    if (found.code() == Code::kAbsent && !doubtful) judgement->standing = Standing::kAbsent;
    if (!found.ok()) return Code::kOk;
    judgement->line = hit.line;
    judgement->segment = hit.segment;
    judgement->entry = hit.entry;
    uint64_t unit;
    EntryView extent;
    if (hit.position == order.position) {
      // Behind the tail the place may be another extent's by now, with a younger record of the same key.
      const bool behind = order.sequence < memory.Load(context_.OffsetOf(&shard_.tail_sequence));
      judgement->standing = behind ? Standing::kSuperseded : Standing::kLive;
    } else if (ExtentOf(context_, hit.position, &unit, &extent) && extent.shard == shard_index_) {
      const bool older = Order{extent.sequence, hit.position} < order;
      judgement->standing = older ? Standing::kBehindOlder : Standing::kSuperseded;
    }
    return Code::kOk;
  });
}

Status ShardVerification::VisitSet(const Order& order, const RecordView& record, uint64_t bytes) {
  const uint64_t hash = HashBytes(record.key.data(), record.key.size(), context_.superblock.hash_seed);
  for (const format::RunReference& run : record.runs) {
    EntryView view;
    if (ReadRun(context_, run.unit, RunKind::kValue, &view) && view.incarnation == run.incarnation)
      findings_->Refer(run.unit);
  }
  Judgement judgement;
  const Status judged = Judge(order, record.key, hash, &judgement);
  if (judged.code() == Code::kIo)
    judgement.standing = Standing::kUnknown;
  else
    FAULTLESS_TRY(judged);
  missing_.erase(hash);
  switch (judgement.standing) {
    case Standing::kLive: {
      const uint64_t line = (judgement.line - judgement.segment) / sizeof(format::IndexLine);
      met_[judgement.segment].set(line * kEntriesPerLine + judgement.entry);
      live_bytes_ += bytes;
      value_bytes_ += record.large.run_bytes;
      if (record.runs.empty()) break;
      value_ = Value{};
      value_.position = order.position;
      value_.sequence = order.sequence;
      value_.checksum = record.large.value_checksum;
      value_.runs.assign(record.runs.begin(), record.runs.end());
      value_.key.assign(record.key.begin(), record.key.end());
      break;
    }
    case Standing::kAbsent:
      // What was deleted during this walk has its tombstone before the end of the next one, not of this one.
      if (!catching_up_ && !IsExpired(context_, record)) missing_[hash] = order;
      break;
    case Standing::kBehindOlder:
      findings_->Damaged(judgement.line + (3 + judgement.entry) * 8, "an index entry points at an older record");
      bad_tags_.insert(format::TagOf(hash));
      break;
    case Standing::kSuperseded:
    case Standing::kUnknown:
      break;
  }
  return Code::kOk;
}

Status ShardVerification::ReadValue() {
  uint8_t piece[16 * 1024];
  for (uint64_t left = kValueBytesPerStep; left > 0 && value_.run < value_.runs.size();) {
    const format::RunReference& run = value_.runs[value_.run];
    EntryView view;
    if (!ReadRun(context_, run.unit, RunKind::kValue, &view) || view.incarnation != run.incarnation ||
        view.size_class != run.size_class) {
      value_.gone = true;
      return EndValue();
    }
    const uint64_t offset = uint64_t{run.unit} * format::kUnitBytes + value_.at;
    if (value_.at % format::kUnitBytes == 0) {
      static_cast<void>(context_.storage->PopulateRead(offset, format::kUnitBytes));
    }
    const uint64_t changes = context_.storage->SubstituteChanges();
    CopyFromShared(piece, context_.base + offset, sizeof piece);
    const ReadResult read = WhatWasRead(context_, changes, offset, sizeof piece);
    if (read == ReadResult::kReadAgain) continue;
    if (read == ReadResult::kMissing) {
      findings_->Damaged(offset, "a value cannot be read");
      value_.position = 0;
      return Code::kOk;
    }
    value_.crc = Crc32c(value_.crc, piece, sizeof piece);
    findings_->bytes += sizeof piece;
    walked_bytes_ += sizeof piece;
    value_.at += sizeof piece;
    left -= sizeof piece;
    if (value_.at == RunBytes(run.size_class)) {
      value_.at = 0;
      value_.run++;
    }
  }
  return value_.run == value_.runs.size() ? EndValue() : Code::kOk;
}

/** A run keeps its incarnation for as long as its bytes stay what they are; a live record keeps its runs. */
Status ShardVerification::EndValue() {
  const auto bad_run = [&]() -> const format::RunReference* {
    for (const format::RunReference& run : value_.runs) {
      EntryView view;
      if (!ReadRun(context_, run.unit, RunKind::kValue, &view) || view.incarnation != run.incarnation ||
          view.size_class != run.size_class) {
        return &run;
      }
    }
    return nullptr;
  };
  const uint64_t position = value_.position;
  if (!value_.gone && bad_run() == nullptr) {
    value_.position = 0;
    if (value_.crc != value_.checksum) findings_->Damaged(position, "a value's checksum does not match");
    return Code::kOk;
  }
  const uint64_t hash = HashBytes(value_.key.data(), value_.key.size(), context_.superblock.hash_seed);
  const format::RunReference* bad = nullptr;
  const Status looked = AtOneMoment(context_, shard_index_, [&](const Memory& memory) -> Status {
    bad = nullptr;
    const Status found =
        Probe(memory, shard_, format::TagOf(hash), format::FingerprintOf(hash), NeverStop,
              [&](const IndexHit& hit) -> Status { return hit.position == position ? Code::kOk : Code::kAbsent; });
    const bool behind = value_.sequence < memory.Load(context_.OffsetOf(&shard_.tail_sequence));  // as in Judge
    if (found.ok() && !behind) bad = bad_run();
    return Code::kOk;
  });
  if (looked.code() != Code::kIo) FAULTLESS_TRY(looked);
  value_.position = 0;
  if (bad == nullptr || !looked.ok()) return Code::kOk;  // it has been replaced meanwhile
  const uint64_t offset = context_.ContainsRun(bad->unit, 0) ? context_.OffsetOf(&context_.entry(bad->unit)) : position;
  findings_->Damaged(offset, "a value's run is not what its record says");
  return Code::kOk;
}

}  // namespace faultless::store
