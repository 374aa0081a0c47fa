// Purpose: locks in shared memory that survive their holders: a word naming the holder's opener slot and generation
// (format/layout.h). A holder whose liveness byte is free is dead, whatever its PID namespace, and one CAS takes the
// lock over. What stores, exchanges and logs have in common; who is dead each of them tells for itself.
// Thread safety: any thread of any process. Invariants: whoever acquires a lock from a dead holder settles what that
// one left before anything else.
#pragma once

#include "base/status.h"
#include "format/layout.h"

namespace faultless::format {

/** Of one opener: its word in locks that it holds, and what it knows about other holders. */
class LockHolders {
 public:
  virtual ~LockHolders() = default;
  /** Our lock word, without the waiters bit. */
  virtual uint32_t OwnerWord() const = 0;
  /** Whether the opener that a lock word names is gone. */
  virtual bool IsHolderDead(uint32_t word) const = 0;
  /** Asked before a word is given up: kIo where it cannot be read at all. */
  virtual Status CheckWord(const HalfWord* /*word*/) const { return {}; }
};

/**
 * Waits `wait_ns` at most, and looks after each millisecond whether the holder lives. kOk, kWouldBlock (a live one
 * holds it; nothing was done), kIo (the word cannot be read). *dead_holder: the word of the dead holder that it was
 * taken over from, or 0.
 */
Status AcquireLock(HalfWord* word, const LockHolders& holders, uint64_t wait_ns, uint32_t* dead_holder);
void ReleaseLock(HalfWord* word);

}  // namespace faultless::format
