#include "store/recovery.h"

#include <cstring>
#include <unordered_set>
#include <vector>

#include "base/checksum.h"
#include "base/hash.h"
#include "os/os.h"
#include "store/allocator.h"
#include "store/index.h"
#include "store/large_value.h"
#include "store/lock.h"
#include "store/record_queue.h"
#include "store/shared_bytes.h"

namespace faultless::store {
namespace {

using format::EntryView;
using format::RecordKind;
using format::RecordView;
using format::RunKind;
using format::ShardControl;

constexpr auto kRelaxed = std::memory_order_relaxed;

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
  std::vector<Mark> marks;

  uint64_t begin() const { return unit * format::kUnitBytes; }
  uint64_t limit() const { return begin() + RunBytes(size_class); }
};

/** Which part of a shard's extents counts. */
struct Plan {
  size_t first = 0;  // index into the extents
  size_t last = 0;   // one past; first == last: the queue is empty
  uint64_t end = 0;  // of the last extent
  uint64_t marked_tail_sequence = 0;
};

/** Where the records of a queue end that was not ended by its writer. */
struct QueueEnd {
  uint64_t position;
  uint64_t incarnation;
};

class Recovery {
 public:
  Recovery(Context& context, const std::function<void(uint64_t, uint64_t)>& on_progress)
      : context_(context), on_progress_(on_progress), shards_(context.shards()) {}

  Status Run() {
    uint64_t file_bytes;
    FAULTLESS_TRY(context_.storage->FileBytes(&file_bytes));
    units_ = std::min(file_bytes / format::kUnitBytes, context_.max_units());
    if (units_ <= context_.head_units()) return Status::Corrupt("the file ends within its control region", file_bytes);
    // Until this is done, what is published is what is there: every check of a position needs it.
    InitializeControl(context_.base + format::kControlOffset, context_.shards(), units_,
                      context_.superblock.incarnation_base);
    total_ = units_ * format::kUnitBytes;
    FAULTLESS_TRY(CollectRuns());
    for (auto& extents : shards_) {
      for (Extent& extent : extents) FAULTLESS_TRY(Walk(&extent));
    }
    std::vector<Plan> plans(shards_.size());
    for (uint32_t i = 0; i < shards_.size(); i++) plans[i] = MakePlan(shards_[i], kNoLimit);
    FAULTLESS_TRY(BuildFreeLists());
    for (uint32_t i = 0; i < shards_.size(); i++) FAULTLESS_TRY(Rebuild(i, plans[i]));
    FAULTLESS_TRY(FreeUnusedValueRuns());
    // An extent that ends well makes what follows it count again: what was dropped is gone from the device before.
    FAULTLESS_TRY(context_.storage->Sync());
    for (const QueueEnd& end : queue_ends_) WriteEnd(end);
    if (on_progress_) on_progress_(total_, total_);
    return Code::kOk;
  }

 private:
  static constexpr uint64_t kNoLimit = ~uint64_t{0};

  Status CollectRuns() {
    for (uint64_t unit = context_.head_units() + 1; unit < units_;) {
      EntryView view;
      const bool valid = !context_.IsTableUnit(unit) && format::ReadEntry(context_.entry(unit), unit, &view) &&
                         context_.ContainsRun(unit, view.size_class);
      if (context_.storage->HasSubstitutes()) return Status::Io("a table cannot be read", unit * format::kUnitBytes);
      if (valid && view.kind == RunKind::kQueue && view.shard < shards_.size() &&
          view.size_class <= format::kMaxQueueClass) {
        shards_[view.shard].push_back({unit, view.sequence, view.incarnation, view.size_class, false, 0, {}});
      } else if (valid && view.kind == RunKind::kValue) {
        value_runs_.push_back({unit, view.size_class});
      } else {
        unit++;
        continue;
      }
      unit += uint64_t{1} << view.size_class;
    }
    for (auto& extents : shards_) {
      // One sequence twice: an extent that was taken, given back and taken elsewhere. The younger use counts.
      std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
        return a.sequence != b.sequence ? a.sequence < b.sequence : a.incarnation > b.incarnation;
      });
      extents.erase(std::unique(extents.begin(), extents.end(),
                                [](const Extent& a, const Extent& b) { return a.sequence == b.sequence; }),
                    extents.end());
    }
    return Code::kOk;
  }

  /** Reads the record at `position` of the extent; false where none is valid there. */
  bool ReadValid(const Extent& extent, uint64_t position, RecordView* record, uint64_t* bytes) {
    if (extent.limit() - position < sizeof(format::RecordHeader)) return false;
    if (!ReadRecordAt(context_, position, record, bytes).ok() || extent.limit() - position < *bytes) return false;
    const std::span<const uint8_t> raw{RecordScratch(Scratch::kRead, *bytes), *bytes};
    return format::VerifyChecksum(raw) &&
           format::VerifySeal(raw, position, extent.incarnation, context_.superblock.hash_seed);
  }

  Status Walk(Extent* extent) {
    context_.storage->WillNeed(extent->begin(), RunBytes(extent->size_class));
    uint64_t position = extent->begin();
    while (true) {
      if (extent->limit() - position < sizeof(format::RecordHeader)) {
        extent->intact = true;
        break;
      }
      RecordView record;
      uint64_t bytes;
      const bool valid = ReadValid(*extent, position, &record, &bytes);
      if (context_.storage->HasSubstitutes()) return Status::Io("a record cannot be read", position);
      if (!valid) break;
      if (record.kind == RecordKind::kEnd) {
        extent->intact = true;
        break;
      }
      if (record.kind == RecordKind::kMark && record.value.size() == sizeof(uint64_t)) {
        Extent::Mark mark{position, 0};
        std::memcpy(&mark.tail_sequence, record.value.data(), sizeof mark.tail_sequence);
        extent->marks.push_back(mark);
      }
      if (record.kind == RecordKind::kSet && !record.runs.empty() && !IsExpired(record)) {
        bool sound;
        FAULTLESS_TRY(CheckRuns(record, &sound));
        if (!sound) unsound_.insert(position);
      }
      position += bytes;
    }
    extent->end = position;
    done_ += RunBytes(extent->size_class);
    if (on_progress_) on_progress_(std::min(done_, total_), total_);
    return Code::kOk;
  }

  /** An expired record owns its runs no more: cleaning may have dropped it without a trace. */
  static bool IsExpired(const RecordView& record) {
    return (record.flags & format::kRecordExpires) != 0 && record.expires_at_ms <= os::WallClockMs();
  }

  /** Whether the value runs are those that the record was written with, whole. */
  Status CheckRuns(const RecordView& record, bool* sound) {
    *sound = false;
    uint32_t crc = 0;
    for (const format::RunReference& run : record.runs) {
      EntryView view;
      if (!ReadRun(context_, run.unit, RunKind::kValue, &view) || view.incarnation != run.incarnation ||
          view.size_class != run.size_class) {
        return Code::kOk;
      }
      const uint64_t begin = uint64_t{run.unit} * format::kUnitBytes;
      FAULTLESS_TRY(context_.storage->PopulateRead(begin, RunBytes(run.size_class)));
      for (uint64_t at = 0; at < RunBytes(run.size_class); at += piece_.size()) {
        CopyFromShared(piece_.data(), context_.base + begin + at, piece_.size());
        crc = Crc32c(crc, piece_.data(), piece_.size());
      }
    }
    *sound = crc == record.large.value_checksum;
    return Code::kOk;
  }

  /**
   * The extents that count: from the tail that the youngest believable mark names, as far as records are valid. A mark
   * is believable where everything from the tail that it names up to itself is intact: then all that was moved out of
   * older extents is there. Nothing at or behind `limit` counts, a position in the extent limit_index.
   */
  static Plan MakePlan(const std::vector<Extent>& extents, uint64_t limit_position, size_t limit_index = ~size_t{0}) {
    Plan plan;
    if (extents.empty()) return plan;
    const auto end_of = [&](size_t i) {
      return i == limit_index ? std::min(limit_position, extents[i].end) : extents[i].end;
    };
    const auto intact = [&](size_t i) { return i != limit_index && extents[i].intact; };
    const size_t count = std::min(extents.size(), limit_index == ~size_t{0} ? extents.size() : limit_index + 1);
    size_t first = 0;
    for (size_t i = count; i > 0; i--) {
      const Extent& extent = extents[i - 1];
      for (size_t m = extent.marks.size(); m > 0; m--) {
        const Extent::Mark& mark = extent.marks[m - 1];
        if (mark.position >= end_of(i - 1) || mark.tail_sequence > extent.sequence) continue;
        size_t from = i - 1;
        while (from > 0 && extents[from].sequence > mark.tail_sequence &&
               extents[from - 1].sequence + 1 == extents[from].sequence && intact(from - 1)) {
          from--;
        }
        if (extents[from].sequence != mark.tail_sequence) continue;
        plan.marked_tail_sequence = mark.tail_sequence;
        first = from;
        i = 1;
        break;
      }
    }
    plan.first = first;
    plan.last = first;
    while (plan.last < count) {
      const size_t i = plan.last++;
      plan.end = end_of(i);
      if (!intact(i) || i + 1 >= count || extents[i + 1].sequence != extents[i].sequence + 1) break;
    }
    return plan;
  }

  Status BuildFreeLists() {
    std::vector<std::pair<uint64_t, uint64_t>> used;  // [begin, end) in units
    for (const auto& extents : shards_) {
      for (const Extent& extent : extents)
        used.emplace_back(extent.unit, extent.unit + (uint64_t{1} << extent.size_class));
    }
    for (const auto& [unit, size_class] : value_runs_) used.emplace_back(unit, unit + (uint64_t{1} << size_class));
    std::sort(used.begin(), used.end());
    uint64_t at = context_.head_units() + 1;
    used.emplace_back(units_, units_);
    for (const auto& [begin, end] : used) {
      for (uint64_t unit = at; unit < begin; unit++) {
        if (!context_.IsTableUnit(unit)) context_.entry(unit).identity.store(0, kRelaxed);
      }
      if (at < begin) FAULTLESS_TRY(AddFreeUnits(context_, at, begin));
      for (uint64_t unit = begin; unit < end; unit++) {
        context_.entry(unit).previous.store(0, kRelaxed);
        context_.entry(unit).next.store(0, kRelaxed);
        if (unit != begin) context_.entry(unit).identity.store(0, kRelaxed);
      }
      at = end;
    }
    return Code::kOk;
  }

  Status Rebuild(uint32_t shard_index, Plan plan) {
    std::vector<Extent>& extents = shards_[shard_index];
    while (true) {
      uint64_t unsound_live = kNoLimit;
      size_t unsound_extent = 0;
      FAULTLESS_TRY(Replay(shard_index, extents, plan, &unsound_live, &unsound_extent));
      if (unsound_live == kNoLimit) break;
      // A value that is alive and not whole was never covered by a flush, nor was anything behind it.
      FAULTLESS_TRY(DropIndex(shard_index));
      plan = MakePlan(extents, unsound_live, unsound_extent);
    }
    FAULTLESS_TRY(LinkQueue(shard_index, extents, plan));
    for (size_t i = 0; i < extents.size(); i++) {
      if (i >= plan.first && i < plan.last) continue;
      FAULTLESS_TRY(
          FreeRun(context_, extents[i].unit, {RunKind::kQueue, shard_index, extents[i].incarnation}, nullptr));
    }
    return Code::kOk;
  }

  Status DropIndex(uint32_t shard_index) {
    ShardControl& shard = context_.shard(shard_index);
    shard.directory.store(0, kRelaxed);
    shard.free_pieces.store(0, kRelaxed);
    shard.spare_index_unit.store(0, kRelaxed);
    for (format::Word& spare : shard.spare_pieces) spare.store(0, kRelaxed);
    shard.keys.store(0, kRelaxed);
    shard.live_bytes.store(0, kRelaxed);
    shard.value_bytes.store(0, kRelaxed);
    shard.entry_places.store(0, kRelaxed);
    shard.clear_sequence.store(0, kRelaxed);
    shard.clear_position.store(0, kRelaxed);
    while (shard.index_units.load(kRelaxed) != 0)
      FAULTLESS_TRY(FreeFirstOfChain(context_, &shard.index_units, {RunKind::kIndex, shard_index}));
    return Code::kOk;
  }

  Status Replay(uint32_t shard_index, const std::vector<Extent>& extents, const Plan& plan, uint64_t* unsound_live,
                size_t* unsound_extent) {
    ShardControl& shard = context_.shard(shard_index);
    // What a clear killed need not be indexed first.
    size_t clear_extent = plan.first;
    uint64_t clear_position = 0;
    FAULTLESS_TRY(ForEach(extents, plan, plan.first, 0,
                          [&](size_t i, uint64_t position, const RecordView& record, uint64_t) -> Status {
                            if (record.kind == RecordKind::kClear) {
                              clear_extent = i;
                              clear_position = position;
                            }
                            return Code::kOk;
                          }));
    if (clear_position != 0) {
      shard.clear_sequence.store(extents[clear_extent].sequence, kRelaxed);
      shard.clear_position.store(clear_position, kRelaxed);
    }
    // The longest beginning of the queue in which no unsound record is alive ends before the last record that made
    // their number other than 0: looked for by shortening the queue again and again, it would take a replay for each
    // one of a key that was overwritten often.
    uint64_t alive = 0;
    const auto replay = [&](size_t i, uint64_t position, const RecordView& record, uint64_t bytes) -> Status {
      const bool set = record.kind == RecordKind::kSet;
      uint64_t replaced = 0;
      FAULTLESS_TRY(ReplayRecord(shard_index, position, record, bytes, &replaced));
      if (unsound_.empty()) return Code::kOk;
      const uint64_t before = alive;
      if (replaced != 0 && unsound_.contains(replaced)) alive--;
      if (set && unsound_.contains(position)) alive++;
      if (before == 0 && alive != 0) {
        *unsound_live = position;
        *unsound_extent = i;
      }
      return Code::kOk;
    };
    FAULTLESS_TRY(ForEach(extents, plan, clear_extent, clear_position, replay));
    if (alive == 0) *unsound_live = kNoLimit;
    return Code::kOk;
  }

  template <typename Body>
  Status ForEach(const std::vector<Extent>& extents, const Plan& plan, size_t from, uint64_t from_position,
                 const Body& body) {
    for (size_t i = from; i < plan.last; i++) {
      const uint64_t end = i + 1 == plan.last ? plan.end : extents[i].end;
      uint64_t position = i == from && from_position != 0 ? from_position : extents[i].begin();
      while (position < end) {
        RecordView record;
        uint64_t bytes;
        FAULTLESS_TRY(ReadRecordAt(context_, position, &record, &bytes));
        FAULTLESS_TRY(body(i, position, record, bytes));
        position += bytes;
      }
    }
    return Code::kOk;
  }

  Status FindOther(uint32_t shard_index, uint64_t hash, std::span<const uint8_t> key, IndexHit* hit,
                   RecordFacts* facts) {
    const auto need = [](uint64_t, uint64_t) -> Status { return Code::kOk; };
    return Probe({context_}, context_.shard(shard_index), format::TagOf(hash), format::FingerprintOf(hash), need,
                 [&](const IndexHit& found) -> Status {
                   const Status status = MatchKey(context_, found.position, key, facts);
                   if (status.ok()) *hit = found;
                   return status;
                 });
  }

  bool IsLive(uint32_t shard_index, uint64_t position) {
    RecordView record;
    uint64_t bytes;
    if (!ReadRecordAt(context_, position, &record, &bytes).ok()) return false;
    const uint64_t hash = HashBytes(record.key.data(), record.key.size(), context_.superblock.hash_seed);
    IndexHit hit;
    RecordFacts facts;
    return FindOther(shard_index, hash, record.key, &hit, &facts).ok() && hit.position == position;
  }

  /** *replaced: position of the record of the same key that was alive before; 0: none. */
  Status ReplayRecord(uint32_t shard_index, uint64_t position, const RecordView& record, uint64_t bytes,
                      uint64_t* replaced) {
    if (record.kind != RecordKind::kSet && record.kind != RecordKind::kTombstone) return Code::kOk;
    ShardControl& shard = context_.shard(shard_index);
    const uint64_t hash = HashBytes(record.key.data(), record.key.size(), context_.superblock.hash_seed);
    if (context_.ShardOfHash(hash) != shard_index)
      return Status::Corrupt("a record is in another shard's queue", position);
    IndexHit hit;
    RecordFacts old;
    const Status found = FindOther(shard_index, hash, record.key, &hit, &old);
    const bool replaces = found.ok();
    if (!replaces && found.code() != Code::kAbsent) return found;
    if (replaces) *replaced = hit.position;
    if (record.kind == RecordKind::kTombstone) {
      if (!replaces) return Code::kOk;
      Transaction transaction(context_, &shard.intent, &shard, shard_index);
      RemoveEntry(context_, &transaction, hit);
      transaction.Add(shard.keys, -1);
      transaction.Add(shard.live_bytes, -static_cast<int64_t>(old.bytes));
      transaction.Add(shard.value_bytes, -static_cast<int64_t>(old.run_bytes));
      return transaction.Commit();
    }
    if (!replaces) {
      if (shard.directory.load(kRelaxed) == 0) FAULTLESS_TRY(CreateIndex(context_, shard_index));
      Status placed = FindEmptyPlace(context_, shard_index, format::TagOf(hash), &hit);
      while (placed.code() == Code::kAbsent) {
        FAULTLESS_TRY(SplitSegment(context_, shard_index, format::TagOf(hash)));
        placed = FindEmptyPlace(context_, shard_index, format::TagOf(hash), &hit);
      }
      FAULTLESS_TRY(placed);
    }
    Transaction transaction(context_, &shard.intent, &shard, shard_index);
    if (replaces) {
      SwitchEntry(context_, &transaction, hit, format::FingerprintOf(hash), position);
    } else {
      InsertEntry(context_, &transaction, hit, format::TagOf(hash), format::FingerprintOf(hash), position);
      transaction.Add(shard.keys, 1);
    }
    transaction.Add(shard.live_bytes, static_cast<int64_t>(bytes - (replaces ? old.bytes : 0)));
    transaction.Add(shard.value_bytes, static_cast<int64_t>(record.large.run_bytes - (replaces ? old.run_bytes : 0)));
    return transaction.Commit();
  }

  Status LinkQueue(uint32_t shard_index, const std::vector<Extent>& extents, const Plan& plan) {
    ShardControl& shard = context_.shard(shard_index);
    // The sequences go on behind everything that was ever found, so that nothing old can pass for something new.
    if (!extents.empty()) shard.head_sequence.store(extents.back().sequence, kRelaxed);
    if (plan.first == plan.last) return Code::kOk;
    uint64_t queue_bytes = 0;
    uint64_t wasted_bytes = 0;
    for (size_t i = plan.first; i < plan.last; i++) {
      queue_bytes += RunBytes(extents[i].size_class);
      const uint64_t wasted = extents[i].limit() - (i + 1 == plan.last ? plan.end : extents[i].end);
      context_.entry(extents[i].unit).wasted_bytes.store(wasted, kRelaxed);
      if (i + 1 < plan.last) wasted_bytes += wasted;
      context_.entry(extents[i].unit).next.store(i + 1 < plan.last ? extents[i + 1].unit : 0, kRelaxed);
    }
    const Extent& head = extents[plan.last - 1];
    // The torn end must not stop a later recovery, and nothing is ever appended behind it.
    if (head.limit() - plan.end >= sizeof(format::RecordHeader)) queue_ends_.push_back({plan.end, head.incarnation});
    shard.head.store(head.limit(), kRelaxed);
    shard.head_end.store(head.limit(), kRelaxed);
    shard.head_unit.store(head.unit, kRelaxed);
    shard.head_sequence.store(head.sequence, kRelaxed);
    shard.tail.store(extents[plan.first].begin(), kRelaxed);
    shard.tail_unit.store(extents[plan.first].unit, kRelaxed);
    shard.tail_sequence.store(extents[plan.first].sequence, kRelaxed);
    shard.marked_tail_sequence.store(plan.marked_tail_sequence, kRelaxed);
    shard.flushed_sequence.store(head.sequence, kRelaxed);  // the sync that ends the recovery promises all of it
    shard.queue_bytes.store(queue_bytes, kRelaxed);
    shard.wasted_bytes.store(wasted_bytes, kRelaxed);
    shard.had_runs.store(1, kRelaxed);
    return Code::kOk;
  }

  void WriteEnd(const QueueEnd& queue_end) {
    RecordView end;
    end.kind = RecordKind::kEnd;
    alignas(8) uint8_t bytes[sizeof(format::RecordHeader)];
    format::EncodeRecord(end, bytes);
    format::SealRecord(bytes, queue_end.position, queue_end.incarnation, context_.superblock.hash_seed);
    CopyToShared(context_.base + queue_end.position, bytes, sizeof bytes);
  }

  Status FreeUnusedValueRuns() {
    if (value_runs_.empty()) return Code::kOk;
    std::unordered_set<uint64_t> live;
    for (uint32_t i = 0; i < shards_.size(); i++) {
      const ShardControl& shard = context_.shard(i);
      if (shard.value_bytes.load(kRelaxed) == 0) continue;
      for (uint64_t unit = shard.tail_unit.load(kRelaxed); unit != 0; unit = context_.entry(unit).next.load(kRelaxed)) {
        EntryView view;
        if (!ReadRun(context_, unit, RunKind::kQueue, &view)) break;
        Extent extent{unit, view.sequence, view.incarnation, view.size_class, false, 0, {}};
        RecordView record;
        uint64_t bytes;
        for (uint64_t position = extent.begin(); ReadValid(extent, position, &record, &bytes); position += bytes) {
          if (record.kind == RecordKind::kEnd) break;
          if (record.runs.empty()) continue;
          std::vector<format::RunReference> runs(record.runs.begin(), record.runs.end());
          if (!IsLive(i, position)) continue;
          for (const format::RunReference& run : runs) live.insert(run.unit);
        }
      }
    }
    for (const auto& [unit, size_class] : value_runs_) {
      if (!live.contains(unit)) FAULTLESS_TRY(FreeRun(context_, unit, {RunKind::kValue}, nullptr));
    }
    return Code::kOk;
  }

  Context& context_;
  const std::function<void(uint64_t, uint64_t)>& on_progress_;
  std::vector<std::vector<Extent>> shards_;
  std::vector<std::pair<uint64_t, uint32_t>> value_runs_;
  std::unordered_set<uint64_t> unsound_;  // records whose value runs are not what they say
  std::vector<uint8_t> piece_ = std::vector<uint8_t>(format::kUnitBytes);
  std::vector<QueueEnd> queue_ends_;
  uint64_t units_ = 0;
  uint64_t done_ = 0;
  uint64_t total_ = 0;
};

}  // namespace

void InitializeControl(std::byte* control, uint32_t shard_count, uint64_t published_units, uint64_t first_incarnation) {
  const uint64_t versions = format::VersionsOffset(shard_count) - format::kControlOffset;
  ZeroShared(control, versions);
  auto* const header = reinterpret_cast<format::ControlHeader*>(control);
  header->magic.store(format::kControlMagic, kRelaxed);
  auto* const allocator = reinterpret_cast<format::AllocatorControl*>(control + sizeof(format::ControlHeader));
  allocator->next_incarnation.store(first_incarnation, kRelaxed);
  allocator->published_units.store(published_units, kRelaxed);
  auto* const slots = reinterpret_cast<format::HalfWord*>(control + versions);
  for (uint32_t i = 0; i < format::kVersionSlots; i++) slots[i].store(format::kFirstVersion, kRelaxed);
}

Status Recover(Context& context, const std::function<void(uint64_t, uint64_t)>& on_progress) {
  return Recovery(context, on_progress).Run();
}

}  // namespace faultless::store
