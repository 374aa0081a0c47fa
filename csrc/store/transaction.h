// Purpose: changes of several words of the file that happen wholly or not at all, whoever dies when: the words and
// their new values are listed in an intent first; a count other than 0 decides; then they are applied. Whoever holds
// the lock next finds a decided intent and applies it again: values are absolute, so doing it twice is doing it once. A
// redo log of one change, as in WAVL or LMDB's meta pages, but per shard and in shared memory (docs/concurrency.md).
// Thread safety: the holder of the lock that the intent belongs to. Readers see odd versions while words change.
#pragma once

#include <vector>

#include "base/status.h"
#include "store/batch_list.h"
#include "store/context.h"

namespace faultless::store {

class Transaction {
 public:
  /** `shard` is nullptr for the allocator's intent. Made before anything that the change depends on is read. */
  Transaction(const Context& context, format::Intent* intent, format::ShardControl* shard, uint32_t shard_index);

  /** The word's value as this transaction would leave it. */
  uint64_t Get(const format::Word& word) const;
  void Set(const format::Word& word, uint64_t value);
  void Add(const format::Word& word, int64_t delta) { Set(word, Get(word) + static_cast<uint64_t>(delta)); }
  /** Sets `count` words from `first` on. */
  void Fill(const format::Word& first, uint64_t value, uint64_t count);
  /** The version slot moves on: its keys change. */
  void MoveSlot(uint32_t slot) { flags_ |= format::kIntentSlot | uint64_t{slot} << 32; }
  void MoveAllSlots() { flags_ |= format::kIntentAllSlots; }
  /** Directory or segments change. */
  void MoveStructure() { flags_ |= format::kIntentStructure; }

  /**
   * Decides and applies. kIo: a page under one of the words could not be had. Where that showed before the decision,
   * nothing has changed (kWouldBlock where the page is back by now: do it all again); else the intent stays, and
   * whoever locks next applies it.
   */
  Status Commit();

 private:
  const Context& context_;
  format::Intent* const intent_;
  format::ShardControl* const shard_;
  const uint32_t shard_index_;
  const uint64_t changes_before_;  // SubstituteChanges
  uint64_t count_ = 0;
  uint64_t flags_ = 0;
};

/**
 * Changes words at once, for a recovery: nobody else can see them, and where it does not come to its end the next one
 * builds all of it anew.
 */
class DirectChange {
 public:
  explicit DirectChange(const Context& context) : context_(context) {}
  uint64_t Get(const format::Word& word) const { return word.load(std::memory_order_relaxed); }
  void Set(const format::Word& word, uint64_t value) {
    context_.WordAt(context_.OffsetOf(&word)).store(value, std::memory_order_release);
  }
  void Add(const format::Word& word, int64_t delta) { Set(word, Get(word) + static_cast<uint64_t>(delta)); }

 private:
  const Context& context_;
};

/**
 * A decided change that its writer did not live to apply, for readers that may not write: they see the words as the
 * change leaves them. Source: the idea of reading through a log, as SQLite's readers do with its WAL.
 */
class Overlay {
 public:
  /** False where there is none, or the lock's holder lives. (A commit that met a fault leaves the lock free and the
   * intent decided.) Of a batch it is what that changes in the shard: nothing where it has not been decided. */
  bool Capture(const Context& context, uint32_t shard_index);
  bool Find(uint64_t offset, uint64_t* value) const;

 private:
  struct Change {
    uint64_t offset;
    uint64_t words;
    uint64_t value;
  };
  std::vector<Change> changes_;
  std::vector<BatchOp> of_batch_;  // by place
};

/** Words of the file as a reader sees them. */
struct Memory {
  const Context& context;
  const Overlay* overlay = nullptr;

  uint64_t Load(uint64_t offset) const {
    uint64_t value;
    if (overlay != nullptr && overlay->Find(offset, &value)) return value;
    return context.WordAt(offset).load(std::memory_order_acquire);
  }
};

/** Moves a version slot on to its next even number. For the holder of the shard's lock. */
void EndVersion(const Context& context, format::HalfWord* version);

/** Whether this is a word that a change of the shard may store to: its control words, the pending chains, units. */
bool IsPlaceOfShard(const Context& context, uint64_t offset, uint32_t shard_index);

/** Applies a decided intent and clears it. kCorrupt where it names words outside the file. */
Status ApplyIntent(const Context& context, format::Intent* intent, format::ShardControl* shard, uint32_t shard_index);

}  // namespace faultless::store
