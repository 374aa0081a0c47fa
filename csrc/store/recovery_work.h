// Purpose: the work of one recovery, in the order in which it is done: collecting the extents and walking them
// (recovery_walk.cc), reading the large values (recovery_values.cc), planning which of the records count
// (recovery_plan.cc, recovery_batches.cc), making a store out of those (recovery_rebuild.cc). Thread safety: one
// thread; the walk and the values are read by several that it starts, each of which works on extents and values of its
// own. Ownership: borrows the context. Invariants: docs/format.md, "Recovery"; nothing but `published_units` is stored
// before all shards are planned. Memory: 16 bytes for each of kMostFacts records at most, 24 for each large value, some
// hundred for each extent, 24 for each boundary of a batch that may not be settled, and for each thread 2 MiB at most,
// or what the extent of a large batch has.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "format/record.h"
#include "store/context.h"
#include "store/index.h"
#include "store/promise.h"
#include "store/record_queue.h"
#include "store/recovery.h"

namespace faultless::store {

class Recovery {
 public:
  Recovery(Context& context, Salvage salvage, const std::function<void(uint64_t, uint64_t)>& on_progress)
      : context_(context), salvage_(salvage), on_progress_(on_progress), shards_(context.shards()) {}

  Status Run();

 private:
  static constexpr uint64_t kNoLimit = ~uint64_t{0};
  static constexpr size_t kNoExtent = ~size_t{0};
  /** Of records beyond none are kept: those are read once more for the index. */
#ifdef FAULTLESS_FAIL_POINTS
  static constexpr uint64_t kMostFacts = 200;  // small stores shall have some, too
#else
  static constexpr uint64_t kMostFacts = uint64_t{8} << 20;  // 128 MiB
#endif

  /** Records that follow each other. */
  struct Stretch {
    size_t extent;  // index into the shard's extents
    uint64_t begin;
    uint64_t end;
  };

  /** What a replay needs to know of a record that sets or deletes a key: it need not be read again. */
  struct Fact {
    static constexpr uint32_t kDeletes = 1;
    static constexpr uint32_t kHasRuns = 2;
    static constexpr uint32_t kExpires = 4;
    static constexpr uint32_t kBytes = ~uint32_t{7};

    uint64_t hash;    // of the key
    uint32_t offset;  // in its extent
    uint32_t bytes;   // of the record, a multiple of 8, and the bits above
  };

  /** A record with value runs. */
  struct Large {
    uint64_t position;
    uint64_t run_bytes;
    uint32_t first_unit;
    uint32_t bytes;  // of the record
  };

  /** Where the records begin or end that a batch has in a shard. */
  struct Boundary {
    uint64_t position;
    format::BatchValue batch;
  };

  /** An extent as found, and what a walk through it met. */
  struct Extent {
    uint64_t unit;
    uint64_t sequence;
    uint64_t incarnation;
    uint32_t size_class;
    bool intact = false;  // the walk came to its end
    uint64_t end = 0;     // first position that holds no valid record
    struct Mark {
      uint64_t position;
      uint64_t tail_sequence;
    };
    std::vector<Mark> marks = {};           // before `end`: the first one with each tail
    std::vector<Stretch> rest = {};         // behind `end`, for a salvage
    QueuePlace promised = {};               // the furthest that its marks tell of
    uint64_t last_clear = 0;                // position of the last record that clears the shard; 0: none
    std::vector<Large> large = {};          // until the walk has ended
    std::vector<Boundary> boundaries = {};  // of batches, before `end`
    std::vector<Fact> facts = {};           // of all its records, in order
    bool has_facts = false;                 // else there was no room for them

    uint64_t begin() const { return unit * format::kUnitBytes; }
    uint64_t limit() const { return begin() + RunBytes(size_class); }
  };

  /** Which part of a shard's extents counts. */
  struct Plan {
    size_t first = 0;        // index into the extents
    size_t last = 0;         // one past; first == last: the queue is empty
    uint64_t end = 0;        // of the last extent
    bool whole_end = false;  // nothing is missing at the end of the last extent
    bool believed = false;   // a mark says where it begins
    bool salvaged = false;
  };

  struct Shard {
    std::vector<Extent> extents;                     // by sequence
    QueuePlace promised;                             // the furthest place that a completed flush has promised
    std::unordered_map<uint64_t, uint64_t> unsound;  // records whose value runs are not what they say → place of that
    std::unordered_set<std::string> unsound_keys;
    std::vector<Large> large;
    Plan plan;
    std::vector<Stretch> stretches;  // of the plan

    void ForgetFacts() {
      for (Extent& extent : extents) extent.facts = {};
    }
  };

  /** Where the records of a queue end that was not ended by its writer. */
  struct QueueEnd {
    uint64_t position;
    uint64_t incarnation;
  };

  /** What a thread needs to read an extent, or a value. */
  class Workplace {
   public:
    /** 8-aligned; what was in it is gone. */
    uint8_t* Bytes(size_t size);
    std::vector<Fact> facts;

   private:
    std::unique_ptr<uint64_t[]> bytes_;
    size_t size_ = 0;
  };

  // recovery_walk.cc
  Status CollectRuns();
  /** Walks all extents, begun in the order of the file, as a device likes it. */
  Status WalkExtents();
  /** Any thread. Takes the record out of `bytes`, the extent's; false where none is valid there. */
  bool ReadValid(const Extent& extent, const uint8_t* bytes, uint64_t position, format::RecordView* record,
                 uint64_t* length) const;
  /** Any thread, each its own extent. */
  Status Walk(Workplace* place, uint32_t shard_index, size_t extent_index);
  /** The next position at which a record's header bears the extent's seal; the extent's limit where there is none. */
  uint64_t Resynchronize(const Extent& extent, const uint8_t* bytes, uint64_t position) const;
  void NoteMark(Extent* extent, uint64_t position, const format::RecordView& record);
  void NoteBatch(Extent* extent, uint64_t position, const format::RecordView& record);
  /** Of batches that a flush has covered. */
  void ForgetSettled(Extent* extent) const;
  void NoteFact(uint32_t offset, const format::RecordView& record, uint64_t bytes, std::vector<Fact>* facts) const;
  void KeepFacts(Extent* extent, const std::vector<Fact>& facts);
  /** Any thread. Reads a part of the file: kIo, with the place, unless what cannot be read counts as damage. */
  Status ReadBytes(const char* what, uint64_t offset, uint8_t* target, size_t size) const;
  /** kIo where a mapped page could not be had, unless that counts as damage. */
  Status CheckReadable(const char* what, uint64_t position) const;

  // recovery_values.cc
  /** Reads all large values, begun in the order of the file. */
  Status CheckValues();
  /** Any thread. The record, in this thread's read scratch. */
  Status ReadLarge(const Large& large, format::RecordView* record) const;
  /** Whether the value runs are those that the record was written with, whole. *place: what is wrong. Any thread, but
   * in a salvage, where a run may be made one again. */
  Status CheckRuns(Workplace* workplace, const format::RecordView& record, uint32_t shard_index, bool* sound,
                   uint64_t* place);

  // recovery_reconstruct.cc: for a salvage alone, which has the memory for itself.
  void ReconstructExtents();
  void ReconstructExtent(uint64_t unit, int* guessed);
  /** The incarnation with which the entry's own check matches; 0: none of those that have been used. */
  uint64_t GuessIncarnation(const Extent& extent, uint32_t shard) const;
  /** Makes the run one again that a record says was there, where nothing else is. */
  void RestoreValueRun(const format::RunReference& run, uint32_t shard);
  void WriteEntry(uint64_t unit, format::RunKind kind, uint32_t size_class, uint32_t shard, uint64_t incarnation,
                  uint64_t sequence);
  void Claim(uint64_t unit, uint32_t size_class);
  bool IsUnclaimed(uint64_t unit, uint32_t size_class) const;

  // recovery_plan.cc
  /** Nothing at or behind `limit_position` counts, a position in the extent `limit_extent`. */
  Status PlanShard(uint32_t shard_index, uint64_t limit_position = kNoLimit, size_t limit_extent = kNoExtent);
  /** Of large values: those of records in no plan. */
  static void ForgetUnplanned(Shard* shard);
  static Plan MakePlan(const std::vector<Extent>& extents, uint64_t limit_position, size_t limit_index);
  /**
   * Where the queue must end so that no large value is alive that is not whole: kNoLimit, or that record. And the
   * newest record with such a value that was promised: kNoLimit, where there is none.
   */
  Status FindUnsoundLive(const Shard& shard, uint64_t* limit_position, size_t* limit_extent, uint64_t* newest_promised);
  static bool Covers(const Shard& shard);
  Status DamageOf(const Shard& shard, uint64_t unsound) const;
  void LayOut(Shard* shard);
  /** Whether a record that is not whole stands for the end of its key, rather than of the queue. */
  bool EndsItsKey(const Shard& shard, const Stretch& stretch, uint64_t position,
                  const format::RecordView& record) const;

  // recovery_batches.cc
  /** Ends queues before batches that no flush covered and that are not whole, in every shard. */
  Status CutBatches();

  // recovery_rebuild.cc
  Status BuildFreeLists();
  Status Rebuild(uint32_t shard_index);
  Status Replay(uint32_t shard_index);
  /** The last record of the stretch that clears the shard; 0: none. */
  Status FindClear(const Shard& shard, size_t stretch, uint64_t* position);
  /** The facts of a stretch, at least. */
  Status FactsOf(const Extent& extent, const Stretch& stretch, std::span<const Fact>* facts);
  /** The stretches from `from` on, the first one from `from_position` on (0: from its begin). */
  template <typename Body>
  Status ForEach(const Shard& shard, size_t from, uint64_t from_position, const Body& body) {
    for (size_t i = from; i < shard.stretches.size(); i++) {
      const Stretch& stretch = shard.stretches[i];
      uint64_t position = i == from && from_position != 0 ? from_position : stretch.begin;
      while (position < stretch.end) {
        format::RecordView record;
        uint64_t bytes;
        FAULTLESS_TRY(ReadRecordAt(context_, position, &record, &bytes));
        FAULTLESS_TRY(body(i, position, record, bytes));
        position += bytes;
      }
    }
    return Code::kOk;
  }
  /** The entry of the key that the record at `position` has. */
  Status FindOther(uint32_t shard_index, uint64_t hash, uint64_t position, IndexHit* hit, RecordFacts* facts);
  bool IsLive(uint32_t shard_index, const format::RecordView& record, uint64_t position);
  /** An empty place of the index for a key that is not there. kAbsent: the store evicts it, for want of room. */
  Status MakePlace(uint32_t shard_index, uint64_t hash, uint64_t run_bytes, IndexHit* hit);
  Status ReplayFact(uint32_t shard_index, uint64_t position, const Fact& fact, bool removes);
  Status LinkQueue(uint32_t shard_index);
  void WriteEnd(const QueueEnd& queue_end);
  Status FreeUnusedValueRuns();

  /** So much of `total_` is done. */
  void Report(uint64_t done);

  Context& context_;
  const Salvage salvage_;
  const std::function<void(uint64_t, uint64_t)>& on_progress_;
  std::vector<Shard> shards_;
  std::vector<std::pair<uint64_t, uint32_t>> value_runs_;
  std::map<uint64_t, uint64_t> claimed_;       // runs that are what their entry says: begin → end, in units
  std::map<uint64_t, uint64_t> incarnations_;  // of these: first one of each recovery → youngest
  std::atomic<uint64_t> facts_kept_{0};
  std::atomic<uint64_t> batches_end_{0};      // 1 + the highest number of a batch that was found
  std::atomic<uint64_t> settled_batches_{0};  // flushes have covered those with lower numbers, as far as is known
  Workplace workplace_;                       // of the thread that recovers
  std::vector<QueueEnd> queue_ends_;
  uint64_t units_ = 0;
  // Progress, in bytes: extents are read twice, value runs once.
  uint64_t queue_bytes_ = 0;
  uint64_t value_bytes_ = 0;
  std::atomic<uint64_t> done_{0};
  uint64_t total_ = 0;
};

}  // namespace faultless::store
