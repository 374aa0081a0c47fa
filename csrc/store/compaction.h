// Purpose: giving back all that no live record needs, however little it is, in bounded steps while everybody reads and
// writes: each shard's queue is cleaned up to where its head was, its index merged, what then waits for a flush gets
// one, and free units lose their space. Thread safety: one thread at a time per object, any number of objects, also of
// several processes. May wait.
#pragma once

#include <vector>

#include "base/status.h"
#include "store/context.h"

namespace faultless::store {

class Compaction {
 public:
  explicit Compaction(Context& context);

  /**
   * One bounded step. kOk; kWouldBlock: do it again, without holding a thread meanwhile; kReadOnly, kIo (a flush
   * failed). kCorrupt: a record is damaged, which, with all that is younger in its shard, stays where it is; told in
   * the last step, when everything else has been done.
   */
  Status Step();
  bool done() const { return phase_ == Phase::kDone; }
  /** How far it is; never goes back, and ends at *total. */
  void Progress(uint64_t* done, uint64_t* total) const;
  /** By how much less the file takes than at the beginning, whoever else wrote to it. */
  uint64_t freed_bytes() const { return freed_bytes_; }

 private:
  enum class Phase : uint8_t { kBegin, kClean, kMerge, kFlush, kPunch, kDone };
  Status Begin();
  /** Under the shard's lock; false: all of it has been looked at. */
  bool SweepSome();
  Status CleanSome();
  Status MergeSome();
  Status FlushLimbo();
  Status PunchSome();
  void NextShard();

  Context& context_;
  Phase phase_ = Phase::kBegin;
  uint32_t shard_ = 0;
  bool swept_ = false;  // what had expired in the shard is dead
  bool begun_ = false;  // the shard's last extent of those to be cleaned is known
  bool flushed_for_room_ = false;
  uint64_t clean_from_ns_ = 0;   // not before
  uint64_t first_sequence_ = 0;  // of the extents to be cleaned
  uint64_t last_sequence_ = 0;
  uint32_t merged_shards_ = 0;
  uint64_t prefix_ = 0;  // of the shard whose index is being merged
  uint32_t flushes_ = 0;
  uint64_t punched_units_ = 0;
  uint64_t allocated_before_ = 0;
  uint64_t freed_bytes_ = 0;
  std::vector<uint64_t> shard_bytes_;  // queues, when it began
  uint64_t total_bytes_ = 0;
  uint64_t done_bytes_ = 0;
  Status damage_;
};

}  // namespace faultless::store
