// Purpose: verification of one shard: its queue, its index, and each against the other, while others write it.
//
// The queue is walked from its oldest extent to where the head stood at the beginning, and then on to where it stands
// at the end. Each record is read, its checksum and seal compared. Records between tail and head never change, so one
// look is enough where the extent is still in the queue afterwards. Whether a record is the newest of its key, the
// index is asked, at one moment: an entry that points at something older is damaged; no entry at all must be explained
// by a tombstone further on. Entries of the index that the walk has not met are read one by one.
//
// Thread safety: one thread at a time; any number of verifications at once. May wait.
// Invariants: damage is called so only where one moment shows it; a lock is held for one short look only.
#pragma once

#include <bitset>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "format/record.h"
#include "store/verify_moment.h"

namespace faultless::store {

class ShardVerification {
 public:
  ShardVerification(const Context& context, uint32_t shard_index, Findings* findings);

  /** A bounded step. kOk, or kWouldBlock: nothing was done, do it again. Everything else becomes a finding. */
  Status Step();
  bool done() const { return phase_ == Phase::kDone; }
  /** Of the queue, so far. */
  uint64_t walked_bytes() const { return walked_bytes_; }

 private:
  enum class Phase : uint8_t { kBegin, kWalk, kIndex, kFreePieces, kEnd, kDone };
  /** The order of records in a queue. */
  struct Order {
    uint64_t sequence = 0;
    uint64_t position = 0;
    auto operator<=>(const Order&) const = default;
  };
  struct Words {
    uint64_t commits, directory, head, head_end, head_unit, head_sequence, tail, tail_unit, tail_sequence, keys,
        live_bytes, queue_bytes, value_bytes, wasted_bytes, clear_sequence, clear_position;
  };
  enum class Standing : uint8_t { kLive, kSuperseded, kAbsent, kBehindOlder, kUnknown };
  struct Judgement {
    Standing standing = Standing::kUnknown;
    uint64_t segment = 0;
    uint64_t line = 0;
    uint32_t entry = 0;
  };
  /** A large value whose runs are being read. */
  struct Value {
    uint64_t position = 0;  // of its record; 0: none
    uint64_t sequence = 0;  // of its extent
    uint32_t checksum = 0;
    uint32_t crc = 0;
    size_t run = 0;
    uint64_t at = 0;  // within the run
    bool gone = false;
    std::vector<format::RunReference> runs;
    std::vector<uint8_t> key;
  };
  struct Entry {
    uint64_t line;
    uint32_t entry;
    uint32_t tag;
    uint64_t place;
    uint64_t place_offset() const { return line + (3 + entry) * 8; }
    uint64_t tag_offset() const { return line + (entry + 1) / 2 * 8; }
  };

  Status ReadWords(Words* words) const;
  Status Begin();
  Status StartWalk(const Words& words);
  Status Walk();
  Status EnterExtent(uint64_t unit, uint64_t sequence, uint64_t link_offset);
  Status LeaveExtent();
  /** Notes the value runs that hang on some opener's chain. kWouldBlock: nothing is noted for certain. */
  Status ReferToPending();
  bool FollowPending(const format::Word& chain);
  /** The walk has come to its end, or to where it cannot go on. */
  Status EndWalk();
  bool IsStillQueued() const;
  void Resynchronize(uint64_t limit);
  Status Judge(const Order& order, std::span<const uint8_t> key, uint64_t hash, Judgement* judgement) const;
  Status VisitSet(const Order& order, const format::RecordView& record, uint64_t bytes);
  Status ReadValue();
  Status EndValue();
  Status CheckSegment();
  Status ExamineEntry(const Entry& entry, uint64_t segment, bool* moved);
  Status CheckFreePieces();
  Status End();
  Status CheckChain();
  bool CountUnderLock(uint64_t* keys, uint64_t* live_bytes, uint64_t* value_bytes, Words* words) const;

  const Context& context_;
  const uint32_t shard_index_;
  const format::ShardControl& shard_;
  Findings* const findings_;
  Phase phase_ = Phase::kBegin;
  uint64_t found_before_ = 0;  // findings_->count() when this shard began
  uint64_t commits_before_ = 0;
  uint64_t walked_bytes_ = 0;

  // Where the walk stands.
  uint64_t unit_ = 0;
  uint64_t sequence_ = 0;
  uint64_t incarnation_ = 0;
  uint64_t position_ = 0;
  uint64_t extent_end_ = 0;
  Order end_;  // the walk ends here
  bool catching_up_ = false;
  int extended_ = 0;  // how often cleaning was faster than catching up
  Order clear_before_;
  bool broken_ = false;  // the chain of extents has come to an end too early
  Order last_damage_;
  Value value_;

  // What the walk has met.
  std::unordered_map<uint64_t, Order> missing_;  // hash → youngest record whose key the index does not have
  std::unordered_map<uint64_t, std::bitset<format::kEntriesPerSegment>> met_;  // by segment: entries of live records
  uint64_t live_bytes_ = 0;
  uint64_t value_bytes_ = 0;

  // The index.
  uint64_t prefix_ = 0;
  int repeated_ = 0;
  int unusable_words_ = 0;
  bool incomplete_ = false;  // a part of it could not be looked at
  uint64_t entries_ = 0;
  std::unordered_set<uint64_t> segments_;
  std::unordered_set<uint32_t> bad_tags_;  // keys of these may be missing for it
  std::unordered_set<uint64_t> bad_positions_;
};

}  // namespace faultless::store
