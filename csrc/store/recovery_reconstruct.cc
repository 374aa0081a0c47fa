// Runs whose table entry is damaged, for a salvage: what a run holds says much of what its entry said. Everything is
// proven by seals, checksums, links or the entry's own check before it counts (docs/format.md, "Salvage").
#include <algorithm>

#include "base/hash.h"
#include "store/allocator.h"
#include "store/recovery_work.h"

namespace faultless::store {
namespace {

using format::EntryView;
using format::RecordView;
using format::RunKind;

constexpr uint64_t kMostTried = uint64_t{1} << 22;  // incarnations for one entry: a fifth of a second
constexpr int kMostGuessed = 64;  // entries for which that is done, and incarnations past the youngest

}  // namespace

void Recovery::Claim(uint64_t unit, uint32_t size_class) {
  if (salvage_ != Salvage::kNone) claimed_[unit] = unit + (uint64_t{1} << size_class);
}

bool Recovery::IsUnclaimed(uint64_t unit, uint32_t size_class) const {
  const uint64_t end = unit + (uint64_t{1} << size_class);
  if (!context_.ContainsRun(unit, size_class)) return false;
  const auto after = claimed_.lower_bound(end);
  return after == claimed_.begin() || std::prev(after)->second <= unit;
}

void Recovery::WriteEntry(uint64_t unit, RunKind kind, uint32_t size_class, uint32_t shard, uint64_t incarnation,
                          uint64_t sequence) {
  format::TableEntry& entry = context_.entry(unit);
  entry.incarnation.store(incarnation, std::memory_order_relaxed);
  entry.sequence.store(sequence, std::memory_order_relaxed);
  entry.identity.store(format::IdentityOf(kind, size_class, shard, incarnation, sequence, unit),
                       std::memory_order_relaxed);
  Claim(unit, size_class);
}

void Recovery::RestoreValueRun(const format::RunReference& run, uint32_t shard) {
  EntryView view;
  if (salvage_ == Salvage::kNone || !IsUnclaimed(run.unit, run.size_class)) return;
  if (format::ReadEntry(context_.entry(run.unit), run.unit, &view)) return;  // it is something else by now
  // The record says what the run was; whether the bytes are still its own the value's checksum tells.
  WriteEntry(run.unit, RunKind::kValue, run.size_class, shard, run.incarnation, 0);
  value_runs_.emplace_back(run.unit, run.size_class);
}

uint64_t Recovery::GuessIncarnation(const Extent& extent, uint32_t shard) const {
  const format::TableEntry& entry = context_.entry(extent.unit);
  const uint64_t identity = entry.identity.load(std::memory_order_relaxed);
  uint64_t tried = 0;
  for (const auto& [base, youngest] : incarnations_) {
    for (uint64_t guess = base; guess <= youngest + kMostGuessed && tried < kMostTried; guess++, tried++) {
      if (format::IdentityOf(RunKind::kQueue, extent.size_class, shard, guess, extent.sequence, extent.unit) ==
          identity) {
        return guess;
      }
    }
  }
  return 0;
}

void Recovery::ReconstructExtent(uint64_t unit, int* guessed) {
  const format::TableEntry& entry = context_.entry(unit);
  const uint64_t identity = entry.identity.load(std::memory_order_relaxed);
  Extent extent{unit, entry.sequence.load(std::memory_order_relaxed), entry.incarnation.load(std::memory_order_relaxed),
                format::kMaxQueueClass};
  const bool says_queue = format::KindOf(identity) == RunKind::kQueue &&
                          format::ClassOf(identity) <= format::kMaxExtentClass &&
                          format::ShardOf(identity) < shards_.size();
  if (says_queue) extent.size_class = format::ClassOf(identity);
  while (!IsUnclaimed(unit, extent.size_class)) {
    if (extent.size_class-- == 0) return;
  }
  const uint64_t size = extent.limit() - extent.begin();
  uint8_t* const content = workplace_.Bytes(size);
  if (!ReadBytes("an extent cannot be read", extent.begin(), content, size).ok()) return;
  RecordView record;
  uint64_t bytes;
  bool proven = false;  // that the sequence is the right one
  if (!ReadValid(extent, content, extent.begin(), &record, &bytes)) {
    if (!says_queue || (*guessed)++ >= kMostGuessed) return;
    extent.incarnation = GuessIncarnation(extent, format::ShardOf(identity));
    proven = true;
    if (extent.incarnation == 0 || !ReadValid(extent, content, extent.begin(), &record, &bytes)) return;
  }
  uint64_t position = extent.begin() + bytes;
  while (record.key.empty() && ReadValid(extent, content, position, &record, &bytes)) position += bytes;
  if (record.key.empty()) return;
  const uint64_t hash = HashBytes(record.key.data(), record.key.size(), context_.superblock.hash_seed);
  const uint32_t shard = context_.ShardOfHash(hash);
  auto& extents = shards_[shard].extents;
  if (proven && shard != format::ShardOf(identity)) return;
  for (const Extent& other : extents) {
    // The links before it and behind it are outside of every check, and true where they meet something.
    const bool precedes = context_.entry(other.unit).next.load(std::memory_order_relaxed) == unit;
    const bool follows = entry.next.load(std::memory_order_relaxed) == other.unit;
    if (!proven && (precedes || follows)) {
      const uint64_t sequence = precedes ? other.sequence + 1 : other.sequence - 1;
      proven = sequence == extent.sequence || identity == format::IdentityOf(RunKind::kQueue, extent.size_class, shard,
                                                                             extent.incarnation, sequence, unit);
      if (proven) extent.sequence = sequence;
    }
  }
  // Where it is the only one there is no order that a wrong sequence could disturb.
  if (extents.empty() && entry.next.load(std::memory_order_relaxed) == 0) proven = true;
  const bool known = std::any_of(extents.begin(), extents.end(),
                                 [&](const Extent& other) { return other.sequence == extent.sequence; });
  if (!proven || known) return;
  WriteEntry(unit, RunKind::kQueue, extent.size_class, shard, extent.incarnation, extent.sequence);
  extents.push_back(std::move(extent));
}

void Recovery::ReconstructExtents() {
  int guessed = 0;
  for (uint64_t unit = context_.head_units() + 1; unit < units_; unit++) {
    if (context_.IsTableUnit(unit) || !IsUnclaimed(unit, 0)) continue;
    EntryView view;
    if (format::ReadEntry(context_.entry(unit), unit, &view)) continue;
    const format::TableEntry& entry = context_.entry(unit);
    if (entry.identity.load(std::memory_order_relaxed) == 0 && entry.incarnation.load(std::memory_order_relaxed) == 0) {
      continue;  // nothing has ever been here, or all that said so is gone
    }
    ReconstructExtent(unit, &guessed);
  }
}

}  // namespace faultless::store
