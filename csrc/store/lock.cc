#include "store/lock.h"

#include "os/os.h"
#include "store/transaction.h"

namespace faultless::store {
namespace {

constexpr int kSpins = 200;
constexpr uint64_t kWaitNs = 1'000'000;  // then the operation is queued anew, without a thread

inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

bool TryTake(format::HalfWord* word, uint32_t seen, uint32_t wanted) {
  return word->compare_exchange_strong(seen, wanted, std::memory_order_acq_rel, std::memory_order_relaxed);
}

Status ReplayOf(const Context& context, format::Intent* intent, format::ShardControl* shard, uint32_t shard_index) {
  if (intent->count.load(std::memory_order_acquire) == 0) return Code::kOk;
  return ApplyIntent(context, intent, shard, shard_index);
}

}  // namespace

bool IsHolderDead(const Context& context, uint32_t word) {
  const uint32_t slot = (word & ((1u << format::kLockSlotBits) - 1)) - 1;
  const uint32_t generation = word >> format::kLockSlotBits & format::kLockGenerationMask;
  if (slot >= format::kOpenerSlots) return true;                           // no process writes such a word
  if ((word & ~format::kLockWaiters) == context.owner_word) return false;  // another thread of ours
  const uint32_t current = context.opener(slot).generation.load(std::memory_order_acquire);
  if ((current & format::kLockGenerationMask) != generation) return true;
  bool locked = true;
  if (!context.storage->IsByteLocked(format::kOpenerBytes + slot, &locked).ok()) return false;
  return !locked;
}

Status TryAcquireWord(const Context& context, format::HalfWord* word) {
  const uint32_t seen = word->load(std::memory_order_relaxed);
  if (seen == 0 || IsHolderDead(context, seen)) {
    if (TryTake(word, seen, context.owner_word)) return Code::kOk;
  }
  return Code::kWouldBlock;
}

Status AcquireWord(const Context& context, format::HalfWord* word, uint32_t* dead_holder) {
  *dead_holder = 0;
  for (int spin = 0; spin < kSpins; spin++) {
    const uint32_t seen = word->load(std::memory_order_relaxed);
    if (seen == 0 && TryTake(word, 0, context.owner_word)) return Code::kOk;
    Pause();
  }
  const uint64_t begin = os::MonotonicNs();
  while (true) {
    uint32_t seen = word->load(std::memory_order_relaxed);
    // Others may wait too: a lock taken after waiting keeps the bit, so that its release wakes the next one.
    if (seen == 0) {
      if (TryTake(word, 0, context.owner_word | format::kLockWaiters)) return Code::kOk;
      continue;
    }
    const uint64_t waited = os::MonotonicNs() - begin;
    if (waited >= kWaitNs) {
      if (context.storage->IsSubstituted(context.OffsetOf(word), sizeof *word)) {
        return Status::Io("the control region cannot be read", context.OffsetOf(word));
      }
      if (!IsHolderDead(context, seen)) return Code::kWouldBlock;
      if (TryTake(word, seen, context.owner_word | format::kLockWaiters)) {
        *dead_holder = seen;
        return Code::kOk;
      }
      continue;
    }
    if ((seen & format::kLockWaiters) == 0) {
      if (!TryTake(word, seen, seen | format::kLockWaiters)) continue;
      seen |= format::kLockWaiters;
    }
    os::WaitOnWord(word, seen, static_cast<uint32_t>((kWaitNs - waited) / 1000 + 1));
  }
}

void ReleaseWord(format::HalfWord* word) {
  const uint32_t held = word->exchange(0, std::memory_order_acq_rel);
  if (held & format::kLockWaiters) os::WakeWord(word, 1);
}

ShardLock::ShardLock(const Context& context, uint32_t shard) : shard_(context.shard(shard)) {
  uint32_t dead_holder = 0;
  status_ = AcquireWord(context, &shard_.lock, &dead_holder);
  if (!status_.ok()) return;
  if (dead_holder != 0) {
    // The dead holder may have died in a change of the allocator that also changes words of this shard: that is settled
    // first, by us or by whoever holds the allocator now. Until it is, the shard stays the dead holder's.
    const AllocatorLock allocator(context);
    if (!allocator.status().ok()) {
      status_ = allocator.status();
      shard_.lock.store(dead_holder | format::kLockWaiters, std::memory_order_release);
      os::WakeWord(&shard_.lock, 1);
      return;
    }
  }
  if (status_.ok()) status_ = ReplayOf(context, &shard_.intent, &shard_, shard);
  if (!status_.ok()) ReleaseWord(&shard_.lock);
}

ShardLock::~ShardLock() {
  if (status_.ok()) ReleaseWord(&shard_.lock);
}

AllocatorLock::AllocatorLock(const Context& context) : context_(context) {
  uint32_t dead_holder = 0;
  status_ = AcquireWord(context, &context.allocator().lock, &dead_holder);
  if (!status_.ok()) return;
  status_ = ReplayOf(context, &context.allocator().intent, nullptr, 0);
  if (!status_.ok()) ReleaseWord(&context.allocator().lock);
}

AllocatorLock::~AllocatorLock() {
  if (status_.ok()) ReleaseWord(&context_.allocator().lock);
}

}  // namespace faultless::store
