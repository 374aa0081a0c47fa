// Purpose: who has a file open, and lives. Each opening takes a slot and holds the lock on the slot's byte
// (os::TryLockByte) until it closes or its process ends, however that happens.
//
// Thread safety: Take and Release belong to one thread at a time; the rest may be called from any thread in between.
// Invariants: a word names one opening for good: slot and generation, never used twice (but for 2^21 uses of a slot).
// Ownership: the descriptor and the slots' memory are the file's, which must outlive this.
#pragma once

#include "format/ipc_layout.h"
#include "format/lock_word.h"
#include "os/os.h"

namespace faultless::ipc {

/** The slot that an opener's word names; kIpcOpeners or more: none. */
constexpr uint32_t SlotOf(uint32_t word) { return (word & ((1u << format::kLockSlotBits) - 1)) - 1; }

class Opener final : public format::LockHolders {
 public:
  Opener() = default;
  Opener(const Opener&) = delete;
  Opener& operator=(const Opener&) = delete;

  /** Never waits. kBusy where all slots are in use. */
  Status Take(int fd, format::IpcOpener* slots);
  /**
   * Harmless where nothing was taken. left_nothing: an orderly end; else others find what it left, as they find what
   * the dead left.
   */
  void Release(bool left_nothing = true);

  /** As a lock word has it; 0: none was taken. */
  uint32_t word() const { return word_; }
  /** Never waits. Whether the opener that a word names is gone. */
  bool IsDead(uint32_t word) const;
  uint32_t OwnerWord() const override { return word_; }
  bool IsHolderDead(uint32_t word) const override { return IsDead(word); }
  /** The word of the slot's opener, if that is dead and left things behind; else 0. Never waits. */
  uint32_t DeadIn(uint32_t slot) const;
  /** Nothing is left of that dead opener. */
  void Forget(uint32_t word) const;

  format::HalfWord& doorbell() const { return slots_[SlotOf(word_)].doorbell; }
  /** Has the process of the opener look at what it waits for. */
  void Ring(uint32_t word) const;

 private:
  int fd_ = -1;
  format::IpcOpener* slots_ = nullptr;
  uint32_t word_ = 0;
};

}  // namespace faultless::ipc
