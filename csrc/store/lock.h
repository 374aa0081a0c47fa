// Purpose: locks in shared memory that survive their holders: a word naming the holder's opener slot and generation.
// A holder whose liveness byte (os::TryLockByte) is free is dead, whatever its PID namespace, and one CAS takes the
// lock over. Thread safety: any thread of any process. Waits 1 ms at most; never call on an event loop. Invariants:
// whoever acquires a lock replays the intent that belongs to it before anything else (transaction.h).
#pragma once

#include "base/status.h"
#include "store/context.h"

namespace faultless::store {

/**
 * kOk, kWouldBlock (a live process holds it; nothing was done), kIo (the word cannot be read). *dead_holder: the word
 * of the dead holder that it was taken over from, or 0.
 */
Status AcquireWord(const Context& context, format::HalfWord* word, uint32_t* dead_holder);
/** Only for holders that can be waited out without harm (flush): one attempt, no waiting, takes over from the dead. */
Status TryAcquireWord(const Context& context, format::HalfWord* word);
void ReleaseWord(format::HalfWord* word);

/** Whether the opener that a lock word names is gone. */
bool IsHolderDead(const Context& context, uint32_t word);

/**
 * A shard's lock, held from construction to destruction where status() is ok. Settles what a dead holder left undone, a
 * record at the queue's end among it that no commit followed. Wakes who watches the store where the queue has grown.
 */
class ShardLock {
 public:
  ShardLock(const Context& context, uint32_t shard);
  ~ShardLock();
  ShardLock(const ShardLock&) = delete;
  ShardLock& operator=(const ShardLock&) = delete;
  const Status& status() const { return status_; }

 private:
  /** What the holder left undone that this one has taken the lock over from. */
  Status SettleFor(const Context& context, uint32_t shard);

  const Context& context_;
  format::ShardControl& shard_;
  Status status_;
  uint64_t head_ = 0;  // of the queue, when the lock was taken
};

/** The allocator's lock, likewise. Taken after a shard's lock, never before one. */
class AllocatorLock {
 public:
  explicit AllocatorLock(const Context& context);
  ~AllocatorLock();
  AllocatorLock(const AllocatorLock&) = delete;
  AllocatorLock& operator=(const AllocatorLock&) = delete;
  const Status& status() const { return status_; }

 private:
  const Context& context_;
  Status status_;
};

}  // namespace faultless::store
