#include "ipc/openers.h"

#include <climits>

namespace faultless::ipc {
namespace {

constexpr uint32_t WordOf(uint32_t slot, uint32_t generation) {
  return (generation & format::kLockGenerationMask) << format::kLockSlotBits | (slot + 1);
}

}  // namespace

Status Opener::Take(int fd, format::IpcOpener* slots) {
  for (uint32_t slot = 0; slot < format::kIpcOpeners; slot++) {
    format::IpcOpener& opener = slots[slot];
    bool acquired = false;
    FAULTLESS_TRY(os::TryLockByte(fd, format::kOpenerBytes + slot, true, &acquired));
    if (!acquired) continue;
    opener.generation.fetch_add(1, std::memory_order_acq_rel);
    opener.process_id.store(os::ProcessId(), std::memory_order_release);
    opener.in_use.store(1, std::memory_order_release);
    fd_ = fd;
    slots_ = slots;
    word_ = WordOf(slot, opener.generation.load(std::memory_order_acquire));
    return {};
  }
  return {Code::kBusy, "as many as can have it open do"};
}

void Opener::Release(bool left_nothing) {
  if (word_ == 0) return;
  const uint32_t slot = SlotOf(word_);
  if (left_nothing) slots_[slot].in_use.store(0, std::memory_order_release);
  static_cast<void>(os::UnlockByte(fd_, format::kOpenerBytes + slot));
  word_ = 0;
}

bool Opener::IsDead(uint32_t word) const {
  word &= ~format::kLockWaiters;
  if (word == word_) return false;
  const uint32_t slot = SlotOf(word);
  if (slot >= format::kIpcOpeners) return true;  // no opener writes such a word
  if (WordOf(slot, slots_[slot].generation.load(std::memory_order_acquire)) != word) return true;
  bool locked = true;
  if (!os::IsByteLocked(fd_, format::kOpenerBytes + slot, &locked).ok()) return false;
  // A lock of our own does not show, but only our own slot is locked by us.
  return !locked && slot != SlotOf(word_);
}

uint32_t Opener::DeadIn(uint32_t slot) const {
  if (slots_[slot].in_use.load(std::memory_order_acquire) == 0 || slot == SlotOf(word_)) return 0;
  const uint32_t word = WordOf(slot, slots_[slot].generation.load(std::memory_order_acquire));
  return IsDead(word) ? word : 0;
}

void Opener::Forget(uint32_t word) const {
  const uint32_t slot = SlotOf(word);
  // Our own lock would be taken again, and let go.
  if (slot >= format::kIpcOpeners || slot == SlotOf(word_)) return;
  bool acquired = false;
  // Under the slot's lock, so that no new opener's mark is wiped out.
  if (!os::TryLockByte(fd_, format::kOpenerBytes + slot, true, &acquired).ok() || !acquired) return;
  if (WordOf(slot, slots_[slot].generation.load(std::memory_order_acquire)) == word) {
    slots_[slot].in_use.store(0, std::memory_order_release);
  }
  static_cast<void>(os::UnlockByte(fd_, format::kOpenerBytes + slot));
}

void Opener::Ring(uint32_t word) const {
  const uint32_t slot = SlotOf(word);
  if (slot >= format::kIpcOpeners) return;
  slots_[slot].doorbell.fetch_add(1, std::memory_order_seq_cst);
  os::WakeWord(&slots_[slot].doorbell, INT_MAX);
}

}  // namespace faultless::ipc
