#include "store/compaction.h"

#include <algorithm>

#include "store/allocator.h"
#include "store/cleaner.h"
#include "store/expiry_sweep.h"
#include "store/flush.h"
#include "store/give_back.h"
#include "store/index_merge.h"
#include "store/lock.h"
#include "store/record_queue.h"
#include "store/watch_bell.h"

namespace faultless::store {
namespace {

using format::ShardControl;

constexpr auto kRelaxed = std::memory_order_relaxed;
/** For as long others wait for the shard: some hundred microseconds where its pages are in memory. */
constexpr CleaningBudget kCleaningPerStep{512, 64, 256 * 1024};
constexpr SweepBudget kSweepPerStep{2048, 256 * 1024, 64};
/** For as long each shard waits for who watches the store. */
constexpr uint64_t kWatchersNs = 10'000'000;
constexpr uint32_t kMostFlushes = 2;  // a dead flusher's limbo goes first

/** Bytes of the queue but of live records and behind the head: dead ones, and the ends of extents. */
uint64_t SpareBytes(const ShardControl& shard) {
  const uint64_t queue = shard.queue_bytes.load(kRelaxed);
  const uint64_t other = shard.live_bytes.load(kRelaxed) + shard.head_end.load(kRelaxed) - shard.head.load(kRelaxed);
  return queue - std::min(queue, other);
}

/** Whether a fresh queue would be enough smaller. A single unit is the least that there is. */
bool IsWorthIt(const Context& context, uint32_t shard_index) {
  const ShardControl& shard = context.shard(shard_index);
  if (HasCleared(context, shard_index)) return true;
  if (shard.queue_bytes.load(kRelaxed) <= format::kUnitBytes) return false;
  const uint64_t live = shard.live_bytes.load(kRelaxed);
  const uint64_t behind_head = shard.head_end.load(kRelaxed) - shard.head.load(kRelaxed);
  return SpareBytes(shard) > live / 32 + format::kUnitBytes / 4 || behind_head > live / 8 + format::kUnitBytes;
}

/** Whether so little is left that more cleaning would only move what lives. */
bool IsEnough(const Context& context, uint32_t shard_index) {
  const ShardControl& shard = context.shard(shard_index);
  return !HasCleared(context, shard_index) && SpareBytes(shard) <= shard.live_bytes.load(kRelaxed) / 128;
}

}  // namespace

Compaction::Compaction(Context& context) : context_(context) {
  for (uint32_t i = 0; i < context.shards(); i++) {
    shard_bytes_.push_back(std::max<uint64_t>(context.shard(i).queue_bytes.load(kRelaxed), 1));
    total_bytes_ += shard_bytes_.back();
  }
  // A damaged counter is no reason for a senseless total.
  total_bytes_ = std::clamp<uint64_t>(total_bytes_, 1, context.PublishedUnits() * format::kUnitBytes);
}

Status Compaction::Step() {
  switch (phase_) {
    case Phase::kBegin:
      return Begin();
    case Phase::kClean:
      return CleanSome();
    case Phase::kMerge:
      return MergeSome();
    case Phase::kFlush:
      return FlushLimbo();
    case Phase::kPunch:
      return PunchSome();
    case Phase::kDone:
      return damage_;
  }
  return Code::kOk;
}

Status Compaction::Begin() {
  if (context_.read_only) return Code::kReadOnly;
  FAULTLESS_TRY(context_.storage->AllocatedBytes(&allocated_before_));
  phase_ = Phase::kClean;
  return Code::kOk;
}

void Compaction::NextShard() {
  done_bytes_ += shard_bytes_[shard_++];
  begun_ = false;
  swept_ = false;
  if (shard_ == context_.shards()) phase_ = Phase::kMerge;
}

bool Compaction::SweepSome() {
  bool more = false;
  // Once through the queue: what expires meanwhile is for writes, or for the next compaction. What cannot be swept, for
  // damage or lack of room, is no reason not to clean.
  swept_ = !NeedsSweep(context_, shard_) || !Sweep(context_, shard_, kSweepPerStep, /*patient=*/true, &more).ok() ||
           context_.shard(shard_).sweep_unit.load(kRelaxed) == 0;
  return !swept_;
}

Status Compaction::CleanSome() {
  const ShardControl& shard = context_.shard(shard_);
  if (begun_ && os::MonotonicNs() < clean_from_ns_) return Code::kWouldBlock;
  Status status;
  {
    const ShardLock lock(context_, shard_);
    status = lock.status();
    if (status.ok() && shard.head.load(kRelaxed) == 0) {
      NextShard();
      return Code::kOk;
    }
    if (status.ok() && !swept_ && SweepSome()) return Code::kOk;
    if (status.ok() && !begun_) {
      if (!IsWorthIt(context_, shard_)) {
        NextShard();
        return Code::kOk;
      }
      first_sequence_ = shard.tail_sequence.load(kRelaxed);
      last_sequence_ = std::max(shard.head_sequence.load(kRelaxed), first_sequence_);
      status = BeginExtent(context_, shard_, Purpose::kReserve);
      begun_ = status.ok();
      if (begun_ && IsWatched(context_)) {
        // Whoever stands at the end of the queue goes on to the fresh extent, and does not lose its place.
        clean_from_ns_ = os::MonotonicNs() + kWatchersNs;
        return Code::kOk;
      }
    }
    uint32_t left = 0;
    const uint64_t tail = shard.tail.load(kRelaxed);
    if (status.ok()) status = Clean(context_, shard_, kCleaningPerStep, &left);
    if (status.ok() || shard.tail.load(kRelaxed) != tail) flushed_for_room_ = false;
    if (status.ok() && (shard.tail_sequence.load(kRelaxed) > last_sequence_ || IsEnough(context_, shard_))) {
      NextShard();
    }
  }
  if (IsOutOfSpace(status)) {
    // What waits for a flush may be the room. Where that does not help, the shard stays as it is.
    if (!flushed_for_room_ && context_.allocator().limbo_units.load(kRelaxed) != 0) {
      flushed_for_room_ = true;
      const Status flushed = Flush(context_);
      return IsOutOfSpace(flushed) ? Status() : flushed;
    }
    NextShard();
    return Code::kOk;
  }
  if (status.code() == Code::kCorrupt) {
    if (damage_.ok()) damage_ = status;
    NextShard();
    return Code::kOk;
  }
  FAULTLESS_TRY(status);
  if (shard_ < context_.shards() && context_.hints[shard_].held_up.exchange(false, kRelaxed)) {
    // A batch that no flush covers yet is in the way. Where there is no room for a mark the shard stays as it is.
    const Status flushed = Flush(context_);
    if (!IsOutOfSpace(flushed)) return flushed;
    NextShard();
  }
  FlushWhereLimboIsLarge(context_);
  GiveBackFreeSpace(context_);
  return Code::kOk;
}

Status Compaction::MergeSome() {
  if (merged_shards_ == context_.shards()) {
    phase_ = Phase::kFlush;
    return Code::kOk;
  }
  const Status status = MergeSegments(context_, merged_shards_, &prefix_);
  if (status.code() == Code::kWouldBlock || status.code() == Code::kIo) return status;
  if (status.code() == Code::kCorrupt && damage_.ok()) damage_ = status;
  if (prefix_ >> format::kDirectoryBits != 0) {
    prefix_ = 0;
    merged_shards_++;
  }
  return Code::kOk;
}

Status Compaction::FlushLimbo() {
  if (context_.allocator().limbo_units.load(kRelaxed) == 0 || flushes_ == kMostFlushes) {
    phase_ = Phase::kPunch;
    return Code::kOk;
  }
  const Status flushed = Flush(context_);
  if (flushed.code() == Code::kWouldBlock) return flushed;
  flushes_++;
  return IsOutOfSpace(flushed) ? Status() : flushed;  // no room for a mark: what can be given back is
}

Status Compaction::PunchSome() {
  // Others free more while it goes on: that is theirs.
  const uint64_t units = FreeUnitsWithSpace(context_);
  Status status = Code::kAbsent;
  const uint64_t kept = KeptUnits(context_, Purpose::kUser);
  if (units > kept && punched_units_ <= context_.PublishedUnits()) status = PunchOneRun(context_, units - kept);
  if (status.ok()) {
    punched_units_ += std::max<uint64_t>(units - std::min(units, FreeUnitsWithSpace(context_)), 1);
    return Code::kOk;
  }
  if (status.code() != Code::kAbsent) return status;
  uint64_t allocated;
  FAULTLESS_TRY(context_.storage->AllocatedBytes(&allocated));
  freed_bytes_ = allocated_before_ - std::min(allocated_before_, allocated);
  phase_ = Phase::kDone;
  return damage_;
}

void Compaction::Progress(uint64_t* done, uint64_t* total) const {
  *total = total_bytes_;
  uint64_t cleaned = done_bytes_;
  if (begun_ && shard_ < context_.shards()) {
    const uint64_t tail = std::min(context_.shard(shard_).tail_sequence.load(kRelaxed), last_sequence_);
    const uint64_t extents = last_sequence_ + 1 - first_sequence_;
    cleaned += shard_bytes_[shard_] / extents * (tail - std::min(tail, first_sequence_));
  }
  *done = phase_ == Phase::kDone ? total_bytes_ : std::min(cleaned, total_bytes_);
}

}  // namespace faultless::store
