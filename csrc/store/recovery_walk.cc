#include <algorithm>
#include <cstring>

#include "base/hash.h"
#include "os/os.h"
#include "store/allocator.h"
#include "store/parallel.h"
#include "store/recovery_work.h"

namespace faultless::store {
namespace {

using format::EntryView;
using format::RecordKind;
using format::RecordView;
using format::RunKind;

constexpr uint64_t kReadAheadBytes = uint64_t{8} << 20;
constexpr uint64_t kTablesAhead = 64;
constexpr size_t kMarkBytesBeforeBatches = 32;  // of files of before there were any

void Raise(std::atomic<uint64_t>* most, uint64_t to) {
  uint64_t now = most->load(std::memory_order_relaxed);
  while (now < to && !most->compare_exchange_weak(now, to, std::memory_order_relaxed)) {
  }
}

}  // namespace

Status Recovery::CheckReadable(const char* what, uint64_t position) const {
  if (salvage_ == Salvage::kAllShards || !context_.storage->HasSubstitutes()) return Code::kOk;
  return Status::Io(what, position);
}

Status Recovery::CollectRuns() {
  uint64_t advised = 0;  // groups
  for (uint64_t unit = context_.head_units() + 1; unit < units_;) {
    for (; advised <= unit / format::kUnitsPerGroup + kTablesAhead; advised++) {
      const uint64_t table = (advised + 1) * format::kUnitsPerGroup;
      if (table < units_) context_.storage->WillNeed(table * format::kUnitBytes, format::kUnitBytes);
    }
    EntryView view;
    const bool valid = !context_.IsTableUnit(unit) && format::ReadEntry(context_.entry(unit), unit, &view) &&
                       context_.ContainsRun(unit, view.size_class);
    FAULTLESS_TRY(CheckReadable("a table cannot be read", unit * format::kUnitBytes));
    if (valid && salvage_ != Salvage::kNone && view.incarnation != 0) {
      Claim(unit, view.size_class);
      uint64_t& youngest = incarnations_[view.incarnation >> 40 << 40];
      youngest = std::max(youngest, view.incarnation);
    }
    if (valid && view.kind == RunKind::kQueue && view.shard < shards_.size() &&
        view.size_class <= format::kMaxExtentClass) {
      shards_[view.shard].extents.push_back({unit, view.sequence, view.incarnation, view.size_class});
    } else if (valid && view.kind == RunKind::kValue) {
      value_runs_.emplace_back(unit, view.size_class);
      value_bytes_ += RunBytes(view.size_class);
    } else {
      unit++;
      continue;
    }
    unit += uint64_t{1} << view.size_class;
  }
  if (salvage_ != Salvage::kNone) ReconstructExtents();
  for (Shard& shard : shards_) {
    auto& extents = shard.extents;
    // One sequence twice: an extent that was taken, given back and taken elsewhere. The younger use counts.
    std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
      return a.sequence != b.sequence ? a.sequence < b.sequence : a.incarnation > b.incarnation;
    });
    extents.erase(std::unique(extents.begin(), extents.end(),
                              [](const Extent& a, const Extent& b) { return a.sequence == b.sequence; }),
                  extents.end());
    for (const Extent& extent : extents) queue_bytes_ += RunBytes(extent.size_class);
  }
  total_ = std::max(2 * queue_bytes_ + value_bytes_, format::kUnitBytes);
  return Code::kOk;
}

Status Recovery::ReadBytes(const char* what, uint64_t offset, uint8_t* target, size_t size) const {
  if (context_.storage->Read(offset, target, size).ok()) return Code::kOk;
  for (size_t at = 0; at < size;) {
    const size_t part = std::min(size - at, os::PageSize() - (offset + at) % os::PageSize());
    if (!context_.storage->Read(offset + at, target + at, part).ok()) {
      if (salvage_ != Salvage::kAllShards) return Status::Io(what, offset + at);
      std::memset(target + at, 0, part);
    }
    at += part;
  }
  return Code::kOk;
}

uint8_t* Recovery::Workplace::Bytes(size_t size) {
  if (size > size_) {
    bytes_.reset(new uint64_t[(size + 7) / 8]);
    size_ = size;
  }
  return reinterpret_cast<uint8_t*>(bytes_.get());
}

Status Recovery::WalkExtents() {
  struct Place {
    uint64_t unit;
    uint64_t before;  // bytes in all places before this one
    uint32_t shard;
    size_t extent;
  };
  std::vector<Place> places;
  for (uint32_t i = 0; i < shards_.size(); i++) {
    for (size_t j = 0; j < shards_[i].extents.size(); j++) {
      places.push_back({shards_[i].extents[j].unit, 0, i, j});
    }
  }
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.unit < b.unit; });
  const auto extent_at = [&](size_t i) -> Extent& { return shards_[places[i].shard].extents[places[i].extent]; };
  for (size_t i = 1; i < places.size(); i++) {
    places[i].before = places[i - 1].before + RunBytes(extent_at(i - 1).size_class);
  }
  const uint32_t threads = ThreadsFor(queue_bytes_);
  std::vector<Workplace> workplaces(threads);
  std::atomic<size_t> advised{0};
  const auto work = [&](uint32_t thread, size_t piece) -> Status {
    size_t next = advised.load(std::memory_order_relaxed);
    while (next < places.size() && places[next].before < places[piece].before + kReadAheadBytes) {
      if (!advised.compare_exchange_weak(next, next + 1, std::memory_order_relaxed)) continue;
      context_.storage->WillNeed(extent_at(next).begin(), RunBytes(extent_at(next).size_class));
      next++;
    }
    FAULTLESS_TRY(Walk(&workplaces[thread], places[piece].shard, places[piece].extent));
    done_.fetch_add(RunBytes(extent_at(piece).size_class), std::memory_order_relaxed);
    return Code::kOk;
  };
  FAULTLESS_TRY(DoPieces(places.size(), threads, work, [&] { Report(done_.load(std::memory_order_relaxed)); }));
  for (Shard& shard : shards_) {
    for (Extent& extent : shard.extents) {
      if (shard.promised.IsBefore(extent.promised)) shard.promised = extent.promised;
      shard.large.insert(shard.large.end(), extent.large.begin(), extent.large.end());
      extent.large = {};
    }
  }
  return Code::kOk;
}

bool Recovery::ReadValid(const Extent& extent, const uint8_t* bytes, uint64_t position, RecordView* record,
                         uint64_t* length) const {
  if (extent.limit() - position < sizeof(format::RecordHeader)) return false;
  const uint8_t* const at = bytes + (position - extent.begin());
  uint64_t first;
  std::memcpy(&first, at, sizeof first);
  *length = format::RecordLength(first);
  if (*length == 0 || *length > extent.limit() - position) return false;
  const std::span<const uint8_t> raw{at, *length};
  return format::DecodeRecord(raw, record) &&
         record->large.run_bytes <= context_.PublishedUnits() * format::kUnitBytes && format::VerifyChecksum(raw) &&
         format::VerifySeal(raw, position, extent.incarnation, context_.superblock.hash_seed);
}

uint64_t Recovery::Resynchronize(const Extent& extent, const uint8_t* bytes, uint64_t position) const {
  for (; extent.limit() - position >= sizeof(format::RecordHeader); position += 8) {
    const uint8_t* const at = bytes + (position - extent.begin());
    uint64_t first;
    std::memcpy(&first, at, sizeof first);
    const uint64_t length = format::RecordLength(first);
    if (length == 0 || length > extent.limit() - position) continue;
    const std::span<const uint8_t> header{at, sizeof(format::RecordHeader)};
    if (format::VerifySeal(header, position, extent.incarnation, context_.superblock.hash_seed)) return position;
  }
  return extent.limit();
}

void Recovery::NoteMark(Extent* extent, uint64_t position, const RecordView& record) {
  format::MarkValue value{};
  if (record.value.size() != sizeof value && record.value.size() != kMarkBytesBeforeBatches) return;
  std::memcpy(&value, record.value.data(), record.value.size());
  Raise(&settled_batches_, value.settled_batches);
  const QueuePlace promised{value.promised_tail_sequence, value.promised_sequence, value.promised_position};
  if (promised.position != 0 && extent->promised.IsBefore(promised)) extent->promised = promised;
  // One mark for each tail: the others say no more, and there may be as many as records.
  const bool known = !extent->marks.empty() && extent->marks.back().tail_sequence == value.tail_sequence;
  if (extent->end == 0 && !known) extent->marks.push_back({position, value.tail_sequence});
}

void Recovery::NoteBatch(Extent* extent, uint64_t position, const RecordView& record) {
  Boundary boundary{position, {}};
  if (extent->end != 0 || record.value.size() != sizeof boundary.batch) return;
  std::memcpy(&boundary.batch, record.value.data(), sizeof boundary.batch);
  Raise(&batches_end_, boundary.batch.number + 1);
  extent->boundaries.push_back(boundary);
}

void Recovery::ForgetSettled(Extent* extent) const {
  const uint64_t settled = settled_batches_.load(std::memory_order_relaxed);
  std::erase_if(extent->boundaries, [&](const Boundary& boundary) { return boundary.batch.number < settled; });
  extent->boundaries.shrink_to_fit();
}

void Recovery::NoteFact(uint32_t offset, const RecordView& record, uint64_t bytes, std::vector<Fact>* facts) const {
  if (record.kind != RecordKind::kSet && record.kind != RecordKind::kTombstone) return;
  const uint64_t hash = HashBytes(record.key.data(), record.key.size(), context_.superblock.hash_seed);
  uint32_t flags = 0;
  if (record.kind == RecordKind::kTombstone) flags |= Fact::kDeletes;
  if (record.kind == RecordKind::kSet && !record.runs.empty()) flags |= Fact::kHasRuns;
  if ((record.flags & format::kRecordExpires) != 0) flags |= Fact::kExpires;
  facts->push_back({hash, offset, static_cast<uint32_t>(bytes) | flags});
}

void Recovery::KeepFacts(Extent* extent, const std::vector<Fact>& facts) {
  const uint64_t count = facts.size();
  if (facts_kept_.fetch_add(count, std::memory_order_relaxed) + count > kMostFacts) {
    facts_kept_.fetch_sub(count, std::memory_order_relaxed);
    return;
  }
  extent->facts.assign(facts.begin(), facts.end());
  extent->has_facts = true;
}

Status Recovery::Walk(Workplace* place, uint32_t shard_index, size_t extent_index) {
  Extent& extent = shards_[shard_index].extents[extent_index];
  const uint64_t size = extent.limit() - extent.begin();
  uint8_t* const content = place->Bytes(size);
  FAULTLESS_TRY(ReadBytes("a record cannot be read", extent.begin(), content, size));
  place->facts.clear();
  uint64_t position = extent.begin();
  uint64_t stretch = position;
  // Behind what is damaged or torn a record is still one: it may be a mark that says what has been promised.
  const auto end_stretch = [&] {
    if (extent.end == 0) {
      extent.end = position;
    } else if (salvage_ != Salvage::kNone && position > stretch) {
      extent.rest.push_back({extent_index, stretch, position});
    }
  };
  while (true) {
    if (extent.limit() - position < sizeof(format::RecordHeader)) {
      extent.intact = extent.end == 0;
      end_stretch();
      break;
    }
    RecordView record;
    uint64_t bytes;
    if (!ReadValid(extent, content, position, &record, &bytes)) {
      end_stretch();
      position = stretch = Resynchronize(extent, content, position + 8);
      continue;
    }
    if (record.kind == RecordKind::kEnd) {
      extent.intact = extent.end == 0;
      end_stretch();
      break;
    }
    if (record.kind == RecordKind::kMark) NoteMark(&extent, position, record);
    if (record.kind == RecordKind::kBatch) NoteBatch(&extent, position, record);
    if (record.kind == RecordKind::kClear) extent.last_clear = position;
    if (record.kind == RecordKind::kSet && !record.runs.empty()) {
      extent.large.push_back(
          {position, record.large.run_bytes, record.runs.front().unit, static_cast<uint32_t>(bytes)});
    }
    NoteFact(static_cast<uint32_t>(position - extent.begin()), record, bytes, &place->facts);
    position += bytes;
  }
  KeepFacts(&extent, place->facts);
  ForgetSettled(&extent);
  return Code::kOk;
}

}  // namespace faultless::store
