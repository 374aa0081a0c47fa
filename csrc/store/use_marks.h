// Purpose: what a store that evicts knows of the use of its keys: one bit for each of many hash values, in a run of the
// file that all processes share. A bit is set when a key is read, and found by eviction when the key's record has
// become the oldest. It says nothing that must be true: a lost mark costs a hit, two keys that share one a little
// space.
//
// So that the bits mean "lately", each one that is set makes room for itself: a hand goes round over the table and
// clears as many bits as there are to one key. Then about as many keys are marked as the store holds, or an eighth of
// the table where that is less, whatever the rate of reads is. A scan of keys that nobody reads again sets no bits.
//
// Thread safety: any thread. Note never waits and stores to memory of this process only; everything else stores to the
// file, may wait for the device, and must not run on an event loop. Words are changed by atomic OR and by plain stores
// of zeros; marks that get lost between them are lost.
#pragma once

#include <array>
#include <atomic>
#include <span>

#include "base/status.h"
#include "store/context.h"

namespace faultless::store {

class UseMarks {
 public:
  /** Never waits: remembers in this process's memory that a key with this tag has been read, until Carry. */
  void Note(uint32_t tag) {
    std::atomic<uint32_t>& place = pending_[tag % kPending];
    if (place.load(std::memory_order_relaxed) == tag) return;
    place.store(tag, std::memory_order_relaxed);
    if (!has_pending_.load(std::memory_order_relaxed)) has_pending_.store(true, std::memory_order_release);
  }
  /** Marks a key as used. Nothing where there is no table yet. */
  void Mark(const Context& context, uint32_t tag);
  /** Marks what has been noted. */
  void Carry(const Context& context);
  bool IsMarked(const Context& context, uint32_t tag);
  /** Takes the run for the table once a quarter of the store is in use: by then it is known how long its records are.
   */
  void EnsureTable(const Context& context);

 private:
  static constexpr uint32_t kPending = 4096;

  struct Table {
    uint64_t offset = 0;  // in the file; 0: there is none
    uint64_t bits = 0;
  };
  Table Find(const Context& context);
  void Forget(const Context& context, const Table& table);

  std::array<std::atomic<uint32_t>, kPending> pending_{};
  std::atomic<bool> has_pending_{false};
  std::atomic<uint64_t> table_{0};  // unit << 8 | class, once it has been checked: it stays the same
  std::atomic<uint64_t> hand_{0};
  std::atomic<uint64_t> owed_bits_{0};     // to be cleared
  std::atomic<uint64_t> bits_per_key_{0};  // when keys were counted last
  std::atomic<uint32_t> until_count_{0};
};

}  // namespace faultless::store
