// Purpose: copying one shard's queue, and the value runs of its records, while others write it.
//
// The queue is copied in rounds: from its oldest extent to where the head stood at a moment (the cut of that round), in
// the next round from there on. A record's bytes never change while its extent is in the queue, and a value run's not
// while its entry keeps its incarnation: so what was still there after it had been copied is right, for good. What was
// gone is lost for this round. That matters only where the cut needs it: extents from its tail on, and the runs of
// records that lived at it.
//
// Thread safety: one thread at a time. May wait.
// Invariants: each record is verified before it is copied, each value while it is.
#pragma once

#include <unordered_map>
#include <vector>

#include "format/record.h"
#include "store/backup_target.h"

namespace faultless::store {

class ShardBackup {
 public:
  ShardBackup(const Context& context, uint32_t shard_index, BackupTarget* target);

  void BeginRound(const ShardCut& cut);
  /** A bounded step towards the cut. kOk, kWouldBlock (do it again), kCorrupt, kIo, or a failure of the target. */
  Status Step();
  bool at_cut() const { return at_cut_ && values_.empty(); }
  /** Once all is copied: *whole says whether the target has all that the cut needs. kWouldBlock, kCorrupt, kIo. */
  Status EndRound(bool* whole);

  uint64_t copied_bytes() const { return copied_bytes_; }
  /** Records that expire may leave the counters without a trace in the queue. */
  bool expiring() const { return expiring_; }
  /** Whether the failure that was answered last is the target's. */
  bool failed_at_target() const { return failed_at_target_; }

 private:
  /** Why a value could not be copied: what comes out where its record is alive all the same. */
  enum class Loss : uint8_t { kGone, kDamaged };
  /** A value that is in runs. */
  struct Value {
    uint64_t sequence = 0;
    uint64_t position = 0;  // of its record
    uint64_t expires_at_ms = 0;
    uint32_t checksum = 0;
    std::vector<format::RunReference> runs;
    size_t run = 0;  // the next one to copy
    uint32_t crc = 0;
    Loss loss = Loss::kGone;
    Status why;
  };

  Status CopyExtent();
  Status CopyStretch(uint64_t end);
  Status Enter(uint64_t unit, uint64_t sequence, uint64_t link_offset);
  Status Leave();
  Status LeaveForTail(bool copied_all);
  Status VisitRecord(const format::RecordView& record, uint64_t position);
  Status CopyValue();
  Status CopyRun(const format::RunReference& run, const format::EntryView& view, uint32_t* crc, bool* missing);
  void Lose(uint64_t hash, Loss loss, Status why);
  bool IsStillQueued() const;
  bool IsThere(const format::RunReference& run, format::EntryView* view) const;
  /** At one moment: whether the record is the newest of its key, and its runs are what it says. */
  Status LookAt(uint64_t hash, const Value& value, bool* live, bool* there) const;

  const Context& context_;
  const uint32_t shard_index_;
  const format::ShardControl& shard_;
  BackupTarget* const target_;
  ShardCut cut_{};
  bool at_cut_ = false;

  // Where the copying stands: in this extent, of which all up to `position_` is in the target.
  uint64_t unit_ = 0;  // 0: nowhere yet
  format::EntryView extent_{};
  uint64_t position_ = 0;
  bool entered_ = false;      // the extent is what was to come next
  bool extent_over_ = false;  // its last record has been copied
  /** All extents from this one on are in the target, up to where the copying stands. */
  uint64_t covered_from_ = 0;

  std::unordered_map<uint64_t, Value> values_;  // by the key's hash: of the records copied last
  std::unordered_map<uint64_t, Value> lost_;    // of records that no younger one has replaced so far
  std::vector<uint8_t> piece_ = std::vector<uint8_t>(format::kUnitBytes);
  uint64_t copied_bytes_ = 0;
  bool expiring_ = false;
  bool failed_at_target_ = false;
};

}  // namespace faultless::store
