#include "store/lock.h"

#include "format/lock_word.h"
#include "os/os.h"
#include "store/record_queue.h"
#include "store/transaction.h"
#include "store/watch_bell.h"

namespace faultless::store {
namespace {

constexpr uint64_t kWaitNs = 1'000'000;  // then the operation is queued anew, without a thread

/** This store's opener, to the locks that all of them have in common. */
class Holders final : public format::LockHolders {
 public:
  explicit Holders(const Context& context) : context_(context) {}
  uint32_t OwnerWord() const override { return context_.owner_word; }
  bool IsHolderDead(uint32_t word) const override { return store::IsHolderDead(context_, word); }
  Status CheckWord(const format::HalfWord* word) const override {
    if (!context_.storage->IsSubstituted(context_.OffsetOf(word), sizeof *word)) return {};
    return Status::Io("the control region cannot be read", context_.OffsetOf(word));
  }

 private:
  const Context& context_;
};

bool TryTake(format::HalfWord* word, uint32_t seen, uint32_t wanted) {
  return word->compare_exchange_strong(seen, wanted, std::memory_order_acq_rel, std::memory_order_relaxed);
}

Status ReplayOf(const Context& context, format::Intent* intent, format::ShardControl* shard, uint32_t shard_index) {
  const uint64_t count = intent->count.load(std::memory_order_acquire);
  if (count == 0) return Code::kOk;
  if (count == format::kIntentOfBatch && shard != nullptr) return SettleBatchOf(context, shard_index);
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
  return format::AcquireLock(word, Holders(context), kWaitNs, dead_holder);
}

void ReleaseWord(format::HalfWord* word) { format::ReleaseLock(word); }

ShardLock::ShardLock(const Context& context, uint32_t shard) : context_(context), shard_(context.shard(shard)) {
  uint32_t dead_holder = 0;
  status_ = AcquireWord(context, &shard_.lock, &dead_holder);
  if (!status_.ok()) return;
  head_ = shard_.head.load(std::memory_order_relaxed);
  if (dead_holder == 0) {
    status_ = ReplayOf(context, &shard_.intent, &shard_, shard);
    if (!status_.ok()) ReleaseWord(&shard_.lock);
    return;
  }
  status_ = SettleFor(context, shard);
  if (status_.ok() || status_.code() == Code::kCorrupt) {
    if (!status_.ok()) ReleaseWord(&shard_.lock);
    return;
  }
  // Until all of it is settled, the shard stays the dead holder's.
  shard_.lock.store(dead_holder | format::kLockWaiters, std::memory_order_release);
  os::WakeWord(&shard_.lock, 1);
}

Status ShardLock::SettleFor(const Context& context, uint32_t shard) {
  {
    // The dead holder may have died in a change of the allocator that also changes words of this shard: that is settled
    // first, by us or by whoever holds the allocator now.
    const AllocatorLock allocator(context);
    FAULTLESS_TRY(allocator.status());
  }
  FAULTLESS_TRY(ReplayOf(context, &shard_.intent, &shard_, shard));
  return EraseUnfinished(context, shard);
}

ShardLock::~ShardLock() {
  if (!status_.ok()) return;
  const bool grown = shard_.head.load(std::memory_order_relaxed) != head_;
  ReleaseWord(&shard_.lock);
  if (grown) TellWatchers(context_);
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
