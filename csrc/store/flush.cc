#include "store/flush.h"

#include <vector>

#include "os/os.h"
#include "store/allocator.h"
#include "store/batch_list.h"
#include "store/cleaner.h"
#include "store/clock.h"
#include "store/lock.h"
#include "store/promise.h"
#include "store/record_queue.h"

namespace faultless::store {
namespace {

using format::ShardControl;

constexpr uint64_t kPatienceNs = 60'000'000'000;  // for another process's flush; a stopped one is not waited for longer
constexpr uint64_t kSmallLimboUnits = 64;         // 4 MiB: not worth a flush of its own
constexpr uint64_t kSmallGarbageBytes = 256 * 1024;  // of one shard: likewise

/**
 * Appends a mark to each queue where there is something to tell, and says where the queues end then. No batch is
 * decided meanwhile: the flush covers all of it or nothing.
 */
Status NoteEnds(Context& context, std::vector<QueuePlace>* ends, uint64_t* settled_batches) {
  const BatchLock batches(context);
  FAULTLESS_TRY(batches.status());
  *settled_batches = context.header().next_batch.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < context.shards(); i++) {
    ShardControl& shard = context.shard(i);
    if (shard.head.load(std::memory_order_acquire) == 0) continue;
    const ShardLock lock(context, i);
    FAULTLESS_TRY(lock.status());
    FAULTLESS_TRY(AppendMark(context, i));
    (*ends)[i] = EndOfQueue(context, i);
    shard.flushing_sequence.store(shard.head_sequence.load(std::memory_order_relaxed), std::memory_order_release);
  }
  return Code::kOk;
}

Status FlushLocked(Context& context) {
  auto& header = context.header();
  auto& allocator = context.allocator();
  if (header.flush_poisoned.load(std::memory_order_acquire) != 0) {
    return {Code::kIo, "an earlier flush failed: close the store and open it again"};
  }
  NoteClock(context);  // what has expired by now stays away after a power cut
  // 1. Space that is in limbo now may go once everything written so far is durable …
  FAULTLESS_TRY(BeginClosingLimbo(context));
  // 2. … and a mark in each queue tells recovery which extents count for nothing from then on, and what the flush
  // before this one promised.
  std::vector<QueuePlace> promised(context.shards());
  uint64_t settled_batches;
  FAULTLESS_TRY(NoteEnds(context, &promised, &settled_batches));
  const Status synced = context.storage->Sync();
  if (!synced.ok()) {
    // The kernel forgets pages that it could not write, so a second sync that says "fine" would lie.
    header.flush_poisoned.store(1, std::memory_order_release);
    return synced;
  }
  for (uint32_t i = 0; i < context.shards(); i++) {
    ShardControl& shard = context.shard(i);
    const uint64_t sequence = shard.flushing_sequence.load(std::memory_order_relaxed);
    if (sequence > shard.flushed_sequence.load(std::memory_order_relaxed)) {
      shard.flushed_sequence.store(sequence, std::memory_order_release);
    }
    if (promised[i].position != 0) StorePromise(context, i, promised[i]);
  }
  header.settled_batches.store(settled_batches, std::memory_order_release);
  allocator.flush_count.fetch_add(1, std::memory_order_acq_rel);
  return FreeClosedLimbo(context);
}

/** One round of this process. Whoever holds the lock waits for the same device. */
Status FlushRound(Context& context) {
  auto& lock = context.allocator().flush_lock;
  const uint64_t begin = os::MonotonicNs();
  Status status = Code::kWouldBlock;
  uint32_t dead_holder;
  while (status.code() == Code::kWouldBlock && os::MonotonicNs() - begin < kPatienceNs) {
    status = AcquireWord(context, &lock, &dead_holder);
  }
  FAULTLESS_TRY(status);
  status = FlushLocked(context);
  ReleaseWord(&lock);
  return status;
}

}  // namespace

Status Flush(Context& context) {
  if (context.read_only || !context.promises()) return Code::kOk;
  FlushRounds& rounds = context.flush_rounds;
  std::unique_lock guard(rounds.mutex);
  const uint64_t wanted = rounds.begun + 1;  // the one under way may have begun before what this one is to cover
  while (rounds.completed < wanted) {
    if (rounds.running) {
      rounds.ended.wait(guard);
      continue;
    }
    rounds.running = true;
    const uint64_t round = ++rounds.begun;
    guard.unlock();
    const Status status = FlushRound(context);
    guard.lock();
    rounds.running = false;
    if (status.ok()) rounds.completed = round;
    rounds.ended.notify_all();
    FAULTLESS_TRY(status);
  }
  return Code::kOk;
}

Status TryFlush(Context& context) {
  auto& lock = context.allocator().flush_lock;
  FAULTLESS_TRY(TryAcquireWord(context, &lock));
  const Status status = FlushLocked(context);
  ReleaseWord(&lock);
  return status;
}

void FlushWhereLimboIsLarge(Context& context) {
  const uint64_t limbo = context.allocator().limbo_units.load(std::memory_order_relaxed);
  if (limbo < kSmallLimboUnits || !context.promises()) return;
  uint64_t live = 0;
  for (uint32_t i = 0; i < context.shards(); i++) {
    const ShardControl& shard = context.shard(i);
    live += shard.live_bytes.load(std::memory_order_relaxed) + shard.value_bytes.load(std::memory_order_relaxed);
  }
  // A failure poisons the next flush that somebody waits for; nobody waits for this one.
  if (limbo * format::kUnitBytes <= live / 8) return;
  static_cast<void>(TryFlush(context));
}

void FlushWhereHeldUp(Context& context, uint32_t shard_index) {
  auto& held_up = context.hints[shard_index].held_up;
  if (!held_up.load(std::memory_order_relaxed)) return;
  held_up.store(false, std::memory_order_relaxed);
  if (GarbageBytes(context, shard_index) >= kSmallGarbageBytes) static_cast<void>(TryFlush(context));
}

}  // namespace faultless::store
