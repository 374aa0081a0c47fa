// Purpose: what changes in a store, as it happens, to whoever follows it. The queues of the shards are records in the
// order in which they were committed, so a watcher is a place in each of them: it copies what has come behind that
// place, and nobody keeps anything for it. Where its place has been cleaned away meanwhile it has fallen behind: it
// tells a gap and goes on from now.
//
// What is told: sets, and tombstones with their reasons; not what cleaning or a new expiry has written again. A clear,
// which goes through the shards one by one, is told once: a shard whose record of it has been met waits until all have
// been. Within a shard the order is that of the commits; between shards there is none but that.
//
// Thread safety: a watcher belongs to one thread at a time; any number of them at once, without a lock but where a dead
// writer's change is finished, or expired values are swept. Invariants: only what stands before a shard's head is
// read, and what was read counts only if its extent was still part of the queue afterwards. Memory is bounded by one
// value and what the sink keeps.
#pragma once

#include <vector>

#include "base/status.h"
#include "format/record.h"
#include "store/context.h"
#include "store/store.h"

namespace faultless::store {

/** A word that moves; its memory stays as long as `owner` does. Letting go of the last one may wait. */
struct WatchBell {
  const format::HalfWord* word;
  std::shared_ptr<const void> owner;
};

enum class ChangeKind : uint8_t { kSet = 1, kDeleted, kExpired, kEvicted, kClear, kGap };

class ChangeSink {
 public:
  virtual ~ChangeSink() = default;
  /** The bytes are valid during the call only. False: no further change is wanted of this step. */
  virtual bool Change(ChangeKind kind, Bytes key, Bytes value) = 0;
};

class Watching {
 public:
  /** Never waits: for the event loop, too. What is committed from now on, of keys with this prefix, is told. */
  Watching(const Context& context, Bytes prefix);

  /**
   * May wait. One bounded step: delivers what is new, some 64 KiB or 1,000 changes of it, at least one where there is
   * any within what a step looks at. kIo, kCorrupt: nothing more can be told.
   */
  Status Read(ChangeSink* sink);

  /** Whether the last Read came to the end of what there is. Then there may be more as soon as the bell (Store::Bell)
   * is not bell(), and after wait_ms() in any case. */
  bool idle() const { return idle_; }
  uint32_t bell() const { return bell_; }
  uint64_t wait_ms() const { return wait_ms_; }

 private:
  struct Cursor {
    uint64_t unit;          // first one of the extent; 0: the shard had no queue yet
    uint64_t sequence;      // of the extent, or of the one before the queue's first
    uint64_t position;      // of the next record
    uint64_t untold;        // ShardControl::untold_drops, as far as it has been told
    uint64_t passed_clear;  // number of the youngest clear that has been met
    uint64_t clear_owner;   // who cleared
    bool waits = false;     // for that clear, which the other shards have not come to
  };
  /** What a step may still do. */
  struct Budget;
  enum class Outcome : uint8_t { kGoOn, kAtHead, kLost, kFailed };

  Cursor StartOf(uint32_t shard_index) const;
  void StartAll();
  bool HasQueue(const Cursor& cursor) const { return cursor.unit != 0; }

  void ReadAll(Budget* budget);
  std::vector<uint32_t> BegunQueues() const;
  void ReadShard(uint32_t shard_index, Budget* budget);
  Outcome ReadNext(uint32_t shard_index, Budget* budget);
  Outcome NextExtent(uint32_t shard_index);
  Outcome TellRecord(uint32_t shard_index, uint64_t length, Budget* budget);
  Outcome TellSet(uint32_t shard_index, const format::RecordView& record, Budget* budget);
  void MeetClear(Cursor* cursor, const format::RecordView& record, Budget* budget);
  bool BeginQueue(uint32_t shard_index);
  bool IsPassed(uint32_t shard_index, uint64_t number) const;
  /** Tells the clear that shards wait for where all have come to it, or gives it up. False: nothing has changed. */
  bool SettleClear(Budget* budget);
  void LeaveClear();

  void Tell(ChangeKind kind, Bytes key, Bytes value, Budget* budget);
  Outcome Fail(const Status& status, Budget* budget);
  bool IsInQueue(uint32_t shard_index) const;
  bool HasPrefix(Bytes key) const;
  /** Finishes what dead writers have decided. */
  void SettleDead();
  /** A step of what every write does, in case that nobody writes; says when it is to be done again. */
  void SweepExpired();

  const Context& context_;
  const std::vector<uint8_t> prefix_;
  std::vector<Cursor> cursors_;
  uint32_t next_shard_ = 0;  // where the next step begins
  uint64_t old_clears_ = 0;  // clears up to this number are not told as such
  uint64_t clear_ = 0;       // the clear that shards wait for; 0: none
  uint64_t clear_since_ns_ = 0;
  bool clear_owner_dead_ = false;
  bool idle_ = false;
  uint32_t bell_ = 0;
  uint64_t wait_ms_ = 0;
};

}  // namespace faultless::store
