#include <algorithm>
#include <cstring>

#include "base/hash.h"
#include "store/allocator.h"
#include "store/holes.h"
#include "store/lock.h"
#include "store/recovery_work.h"
#include "store/shared_bytes.h"

namespace faultless::store {
namespace {

using format::RecordKind;
using format::RecordView;
using format::RunKind;
using format::ShardControl;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr size_t kExtentsAhead = 4;
constexpr size_t kEntriesAhead = 8;  // lines that are on their way to the processor's cache

}  // namespace

Status Recovery::BuildFreeLists() {
  std::vector<std::pair<uint64_t, uint64_t>> used;  // [begin, end) in units
  for (const Shard& shard : shards_) {
    for (const Extent& extent : shard.extents)
      used.emplace_back(extent.unit, extent.unit + (uint64_t{1} << extent.size_class));
  }
  for (const auto& [unit, size_class] : value_runs_) used.emplace_back(unit, unit + (uint64_t{1} << size_class));
  std::sort(used.begin(), used.end());
  uint64_t at = context_.head_units() + 1;
  SetHoles(context_, 0, units_, false);
  used.emplace_back(units_, units_);
  for (const auto& [begin, end] : used) {
    for (uint64_t unit = at; unit < begin; unit++) {
      if (!context_.IsTableUnit(unit)) context_.entry(unit).identity.store(0, kRelaxed);
    }
    // Whether free units have space is known of none of them: it is reserved for those that are used.
    SetHoles(context_, at, begin, true);
    for (uint64_t table = at; table < begin; table++) {
      if (context_.IsTableUnit(table)) SetHoles(context_, table, table + 1, false);
    }
    if (at < begin) FAULTLESS_TRY(AddFreeUnits(context_, at, begin));
    for (uint64_t unit = begin; unit < end; unit++) {
      context_.entry(unit).previous.store(0, kRelaxed);
      context_.entry(unit).next.store(0, kRelaxed);
      if (unit != begin) context_.entry(unit).identity.store(0, kRelaxed);
    }
    at = end;
  }
  // The device may have lost a length, but not what the table says of units behind it. When the file grows again, these
  // entries would pass for runs, free ones among them.
  for (uint64_t unit = units_; unit % format::kUnitsPerGroup != 0; unit++) {
    context_.entry(unit).identity.store(0, kRelaxed);
  }
  return Code::kOk;
}

Status Recovery::Rebuild(uint32_t shard_index) {
  const Shard& shard = shards_[shard_index];
  FAULTLESS_TRY(Replay(shard_index));
  shards_[shard_index].ForgetFacts();
  // What was stored to a page that could not be had is lost.
  if (context_.storage->HasSubstitutes()) {
    return Status::Io("a page of the file could not be read", context_.OffsetOf(&context_.shard(shard_index)));
  }
  FAULTLESS_TRY(LinkQueue(shard_index));
  for (size_t i = 0; i < shard.extents.size(); i++) {
    if (i >= shard.plan.first && i < shard.plan.last) continue;
    FAULTLESS_TRY(FreeRun(context_, shard.extents[i].unit, {RunKind::kQueue, shard_index, shard.extents[i].incarnation},
                          nullptr));
  }
  return Code::kOk;
}

Status Recovery::FindClear(const Shard& shard, size_t stretch, uint64_t* position) {
  const Stretch& within = shard.stretches[stretch];
  *position = 0;
  const uint64_t last = shard.extents[within.extent].last_clear;
  if (last < within.begin) return Code::kOk;
  if (last < within.end) {
    *position = last;
    return Code::kOk;
  }
  for (uint64_t at = within.begin; at < within.end;) {  // the queue ends before it: there may be another one
    RecordView record;
    uint64_t bytes;
    FAULTLESS_TRY(ReadRecordAt(context_, at, &record, &bytes));
    if (record.kind == RecordKind::kClear) *position = at;
    at += bytes;
  }
  return Code::kOk;
}

Status Recovery::FactsOf(const Extent& extent, const Stretch& stretch, std::span<const Fact>* facts) {
  if (!extent.has_facts) {
    uint8_t* const content = workplace_.Bytes(extent.limit() - extent.begin());
    FAULTLESS_TRY(ReadBytes("a record cannot be read", stretch.begin, content, stretch.end - stretch.begin));
    workplace_.facts.clear();
    for (uint64_t at = stretch.begin; at < stretch.end;) {
      const uint8_t* const begin = content + (at - stretch.begin);
      uint64_t first;
      std::memcpy(&first, begin, sizeof first);
      const uint64_t bytes = format::RecordLength(first);
      RecordView record;
      if (bytes == 0 || bytes > stretch.end - at || !format::DecodeRecord({begin, bytes}, &record)) {
        return Status::Corrupt("a record is not what it was", at);
      }
      NoteFact(static_cast<uint32_t>(at - extent.begin()), record, bytes, &workplace_.facts);
      at += bytes;
    }
    *facts = workplace_.facts;
    return Code::kOk;
  }
  const auto at = [&](uint64_t position) {
    return std::lower_bound(extent.facts.begin(), extent.facts.end(), position - extent.begin(),
                            [](const Fact& fact, uint64_t offset) { return fact.offset < offset; });
  };
  *facts = {at(stretch.begin), at(stretch.end)};
  return Code::kOk;
}

Status Recovery::Replay(uint32_t shard_index) {
  const Shard& shard = shards_[shard_index];
  ShardControl& control = context_.shard(shard_index);
  // What a clear killed need not be indexed first.
  size_t first = 0;
  uint64_t clear_position = 0;
  for (size_t i = shard.stretches.size(); i > 0 && clear_position == 0; i--) {
    FAULTLESS_TRY(FindClear(shard, i - 1, &clear_position));
    if (clear_position != 0) first = i - 1;
  }
  if (clear_position != 0) {
    control.clear_sequence.store(shard.extents[shard.stretches[first].extent].sequence, kRelaxed);
    control.clear_position.store(clear_position, kRelaxed);
  }
  for (size_t i = first; i < shard.stretches.size(); i++) {
    Stretch stretch = shard.stretches[i];
    const Extent& extent = shard.extents[stretch.extent];
    if (i == first && clear_position != 0) stretch.begin = clear_position;
    for (size_t j = i; !extent.has_facts && j < std::min(i + kExtentsAhead, shard.stretches.size()); j++) {
      context_.storage->WillNeed(shard.stretches[j].begin, shard.stretches[j].end - shard.stretches[j].begin);
    }
    std::span<const Fact> facts;
    FAULTLESS_TRY(FactsOf(extent, stretch, &facts));
    for (size_t j = 0; j < facts.size(); j++) {
      if (j + kEntriesAhead < facts.size()) {
        PrefetchEntry(context_, control, format::TagOf(facts[j + kEntriesAhead].hash));
      }
      const uint64_t position = extent.begin() + facts[j].offset;
      bool removes = (facts[j].bytes & Fact::kDeletes) != 0;
      if ((facts[j].bytes & Fact::kHasRuns) != 0 && shard.unsound.contains(position)) {
        RecordView record;
        uint64_t bytes;
        FAULTLESS_TRY(ReadRecordAt(context_, position, &record, &bytes));
        removes = EndsItsKey(shard, stretch, position, record);
        if (!removes && shard.plan.salvaged) continue;
      }
      FAULTLESS_TRY(ReplayFact(shard_index, position, facts[j], removes));
    }
    Report(done_ += stretch.end - stretch.begin);
  }
  return Code::kOk;
}

Status Recovery::FindOther(uint32_t shard_index, uint64_t hash, uint64_t position, IndexHit* hit, RecordFacts* facts) {
  const auto need = [](uint64_t, uint64_t) -> Status { return Code::kOk; };
  RecordView record;
  bool read = false;
  return Probe({context_}, context_.shard(shard_index), format::TagOf(hash), format::FingerprintOf(hash), need,
               [&](const IndexHit& found) -> Status {
                 // Only now the key is needed: of most records nobody asks for it.
                 uint64_t bytes;
                 if (!read) FAULTLESS_TRY(ReadRecordAt(context_, position, &record, &bytes));
                 read = true;
                 const Status status = MatchKey(context_, found.position, record.key, facts);
                 if (status.ok()) *hit = found;
                 return status;
               });
}

bool Recovery::IsLive(uint32_t shard_index, const RecordView& record, uint64_t position) {
  const uint64_t hash = HashBytes(record.key.data(), record.key.size(), context_.superblock.hash_seed);
  IndexHit hit;
  RecordFacts facts;
  return FindOther(shard_index, hash, position, &hit, &facts).ok() && hit.position == position;
}

Status Recovery::MakePlace(uint32_t shard_index, uint64_t hash, uint64_t run_bytes, IndexHit* hit) {
  ShardControl& shard = context_.shard(shard_index);
  const uint32_t tag = format::TagOf(hash);
  // What had been evicted is back, and may need more of an index than there is room for: the store evicts it again. All
  // other shards need a beginning of one. (Values with runs cannot go like this, and are few.)
  const bool spare = context_.evicts() && run_bytes == 0;
  const auto is_full = [&] { return spare && AvailableUnits(context_) < context_.shards(); };
  if (shard.directory.load(kRelaxed) == 0) FAULTLESS_TRY(CreateIndex(context_, shard_index));
  Status placed = FindEmptyPlace(context_, shard_index, tag, hit);
  while (placed.code() == Code::kAbsent) {
    const Status split = is_full() ? Status(Code::kStoreFull) : SplitSegment(context_, shard_index, tag);
    if (spare && IsOutOfSpace(split)) {
      shard.evicted_sequence.store(shards_[shard_index].extents.back().sequence, kRelaxed);
      return Code::kAbsent;
    }
    FAULTLESS_TRY(split);
    placed = FindEmptyPlace(context_, shard_index, tag, hit);
  }
  return placed;
}

Status Recovery::ReplayFact(uint32_t shard_index, uint64_t position, const Fact& fact, bool removes) {
  ShardControl& shard = context_.shard(shard_index);
  const uint64_t hash = fact.hash;
  if (context_.ShardOfHash(hash) != shard_index) {
    if (shards_[shard_index].plan.salvaged) return Code::kOk;
    return Status::Corrupt("a record is in another shard's queue", position);
  }
  IndexHit hit;
  RecordFacts old;
  const Status found = FindOther(shard_index, hash, position, &hit, &old);
  const bool replaces = found.ok();
  if (!replaces && found.code() != Code::kAbsent) return found;
  // No intents: nobody else sees the shard, and who dies in between leaves it to another recovery.
  DirectChange change(context_);
  if (removes) {
    if (!replaces) return Code::kOk;
    RemoveEntry(context_, &change, hit);
    change.Add(shard.keys, -1);
    change.Add(shard.live_bytes, -static_cast<int64_t>(old.bytes));
    change.Add(shard.value_bytes, -static_cast<int64_t>(old.run_bytes));
    return Code::kOk;
  }
  // When is not known: a look through the queue will tell.
  if ((fact.bytes & Fact::kExpires) != 0) shard.earliest_expiry_ms.store(1, kRelaxed);
  uint64_t run_bytes = 0;
  if ((fact.bytes & Fact::kHasRuns) != 0) {
    RecordView record;
    uint64_t bytes;
    FAULTLESS_TRY(ReadRecordAt(context_, position, &record, &bytes));
    run_bytes = record.large.run_bytes;
  }
  if (replaces) {
    SwitchEntry(context_, &change, hit, format::FingerprintOf(hash), position);
  } else {
    const Status placed = MakePlace(shard_index, hash, run_bytes, &hit);
    if (placed.code() == Code::kAbsent) return Code::kOk;
    FAULTLESS_TRY(placed);
    InsertEntry(context_, &change, hit, format::TagOf(hash), format::FingerprintOf(hash), position);
    change.Add(shard.keys, 1);
  }
  const uint64_t bytes = fact.bytes & Fact::kBytes;
  change.Add(shard.live_bytes, static_cast<int64_t>(bytes - (replaces ? old.bytes : 0)));
  change.Add(shard.value_bytes, static_cast<int64_t>(run_bytes - (replaces ? old.run_bytes : 0)));
  return Code::kOk;
}

Status Recovery::LinkQueue(uint32_t shard_index) {
  const Shard& found = shards_[shard_index];
  const auto& extents = found.extents;
  const Plan& plan = found.plan;
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
  if (!plan.salvaged && head.limit() - plan.end >= sizeof(format::RecordHeader)) {
    queue_ends_.push_back({plan.end, head.incarnation});
  }
  const uint64_t end = plan.salvaged ? plan.end : head.limit();
  shard.head.store(end, kRelaxed);
  shard.head_end.store(head.limit(), kRelaxed);
  shard.head_unit.store(head.unit, kRelaxed);
  shard.head_sequence.store(head.sequence, kRelaxed);
  shard.tail.store(extents[plan.first].begin(), kRelaxed);
  shard.tail_unit.store(extents[plan.first].unit, kRelaxed);
  shard.tail_sequence.store(extents[plan.first].sequence, kRelaxed);
  shard.marked_tail_sequence.store(plan.believed ? extents[plan.first].sequence : 0, kRelaxed);
  shard.marked_end.store(end, kRelaxed);
  shard.flushed_sequence.store(head.sequence, kRelaxed);  // the sync that ends the recovery promises all of it
  shard.queue_bytes.store(queue_bytes, kRelaxed);
  shard.wasted_bytes.store(wasted_bytes, kRelaxed);
  shard.had_runs.store(1, kRelaxed);
  return Code::kOk;
}

void Recovery::WriteEnd(const QueueEnd& queue_end) {
  RecordView end;
  end.kind = RecordKind::kEnd;
  alignas(8) uint8_t bytes[sizeof(format::RecordHeader)];
  format::EncodeRecord(end, bytes);
  format::SealRecord(bytes, queue_end.position, queue_end.incarnation, context_.superblock.hash_seed);
  CopyToShared(context_.base + queue_end.position, bytes, sizeof bytes);
}

Status Recovery::FreeUnusedValueRuns() {
  if (value_runs_.empty()) return Code::kOk;
  std::unordered_set<uint64_t> live;
  for (uint32_t i = 0; i < shards_.size(); i++) {
    if (context_.shard(i).value_bytes.load(kRelaxed) == 0) continue;
    for (const Large& large : shards_[i].large) {
      RecordView record;
      uint64_t bytes;
      FAULTLESS_TRY(ReadRecordAt(context_, large.position, &record, &bytes));
      if (!IsLive(i, record, large.position)) continue;  // which may have read the same record to the same place
      for (const format::RunReference& run : record.runs) live.insert(run.unit);
    }
  }
  for (const auto& [unit, size_class] : value_runs_) {
    if (!live.contains(unit)) FAULTLESS_TRY(FreeRun(context_, unit, {RunKind::kValue}, nullptr));
  }
  return Code::kOk;
}

}  // namespace faultless::store
