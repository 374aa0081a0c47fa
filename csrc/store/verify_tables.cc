#include "store/verify_tables.h"

#include <algorithm>
#include <optional>

#include "store/holes.h"

namespace faultless::store {
namespace {

using format::EntryView;
using format::RunKind;
using format::TableEntry;
using format::Word;

constexpr auto kAcquire = std::memory_order_acquire;
constexpr uint64_t kGroupsAtOnce = 16;
constexpr int kAttempts = 16;
constexpr uint64_t kChainPerLook = 16'384;
constexpr size_t kOwnersPerStep = 1024;

bool IsFree(const Context& context, uint64_t unit, uint32_t size_class) {
  return context.ContainsRun(unit, size_class) &&
         context.entry(unit).identity.load(kAcquire) == format::IdentityOf(RunKind::kFree, size_class, 0, 0, 0, unit);
}

}  // namespace

Status TableVerification::Step() {
  switch (phase_) {
    case Phase::kTotals:
      totals_ = ReadTotals();
      runs_.clear();
      group_ = 0;
      counts_ = {};
      phase_ = Phase::kGroups;
      return Code::kOk;
    case Phase::kGroups:
      return CheckGroups();
    case Phase::kChains:
      return CheckChains();
    case Phase::kOwners:
      return CheckOwners();
    case Phase::kDone:
      return Code::kOk;
  }
  return Code::kOk;
}

TableVerification::Totals TableVerification::ReadTotals() const {
  const auto& allocator = context_.allocator();
  return {context_.PublishedUnits(),
          allocator.free_units.load(kAcquire),
          allocator.hollow_units.load(kAcquire),
          allocator.limbo_units.load(kAcquire),
          allocator.next_incarnation.load(kAcquire),
          allocator.limbo_open.load(kAcquire),
          allocator.limbo_closing.load(kAcquire)};
}

bool TableVerification::IsIdle() const {
  const auto& allocator = context_.allocator();
  return allocator.lock.load(kAcquire) == 0 && allocator.intent.count.load(kAcquire) == 0;
}

Status TableVerification::CheckGroups() {
  const uint64_t published = context_.PublishedUnits();
  const uint64_t groups = (published + format::kUnitsPerGroup - 1) / format::kUnitsPerGroup;
  const bool at_once = groups <= kGroupsAtOnce;
  const uint64_t end = at_once ? groups : std::min(group_ + 1, groups);
  for (uint64_t group = group_; group < end; group++) {
    const uint64_t table = group == 0 ? context_.head_units() : group * format::kUnitsPerGroup;
    static_cast<void>(context_.storage->PopulateRead(table * format::kUnitBytes, format::kUnitBytes));
  }
  auto& allocator = context_.allocator();
  const uint64_t changes = context_.storage->SubstituteChanges();
  Findings found(context_);
  std::vector<Run> runs;
  Counts counts;
  Totals totals;
  const auto look = [&] {
    totals = ReadTotals();
    CheckEntries(group_, end, totals, &found, &runs, &counts);
    if (group_ == 0) CheckHeads(&found);
    if (group_ == 0) CheckLimbo(totals, at_once ? counts.limbo_units : 0, &found);
    if (at_once && found.count() == 0) CompareTotals(totals, counts, &found);
  };
  if (!context_.read_only) {
    const AllocatorLock lock(context_);
    if (lock.status().code() == Code::kWouldBlock) return lock.status();
    if (!lock.status().ok()) {
      findings_->Damaged(lock.status(), context_.OffsetOf(&allocator));
      phase_ = Phase::kDone;
      return Code::kOk;
    }
    look();
  } else {
    // Nobody changes anything where the lock is free before and after, and the counters have not moved.
    const bool idle = IsIdle();
    const Totals before = ReadTotals();
    if (idle) look();
    Findings again(context_);
    std::vector<Run> same_runs;
    Counts same_counts;
    if (idle) CheckEntries(group_, end, totals, &again, &same_runs, &same_counts);
    const bool still =
        idle && IsIdle() && ReadTotals() == before && same_counts == counts && same_runs.size() == runs.size();
    if (!still && ++attempts_ < kAttempts) return Code::kWouldBlock;
    attempts_ = 0;
    if (!still) {
      phase_ = Phase::kDone;  // never idle, or in the hands of a dead writer: who may not write cannot tell
      return Code::kOk;
    }
  }
  if (context_.storage->SubstituteChanges() != changes || context_.storage->HasSubstitutes()) {
    for (uint64_t group = group_; group < end; group++) {
      const uint64_t table = (group == 0 ? context_.head_units() : group * format::kUnitsPerGroup) * format::kUnitBytes;
      if (WhatWasRead(context_, changes, table, format::kUnitBytes) == ReadResult::kMissing) {
        findings_->Damaged(table, "a table cannot be read");
      }
    }
    phase_ = Phase::kDone;
    return Code::kOk;
  }
  for (const auto& [offset, reason] : found.damaged()) findings_->Damaged(offset, reason);
  runs_.insert(runs_.end(), runs.begin(), runs.end());
  counts_.free_units += counts.free_units;
  counts_.hollow_units += counts.hollow_units;
  counts_.limbo_units += counts.limbo_units;
  group_ = end;
  if (group_ < groups) return Code::kOk;
  // Of a large store the sums count only where nothing moved between its groups.
  if (!at_once && ReadTotals() == totals_ && findings_->count() == 0) CompareTotals(totals_, counts_, findings_);
  phase_ = Phase::kChains;
  return Code::kOk;
}

void TableVerification::CompareTotals(const Totals& totals, const Counts& counts, Findings* found) const {
  const auto& allocator = context_.allocator();
  if (totals.free_units != counts.free_units) {
    found->Damaged(context_.OffsetOf(&allocator.free_units), "free_units is not what the free runs add up to");
  }
  if (totals.hollow_units != counts.hollow_units) {
    found->Damaged(context_.OffsetOf(&allocator.hollow_units), "hollow_units is not what the holes add up to");
  }
  if (totals.limbo_units != counts.limbo_units) {
    found->Damaged(context_.OffsetOf(&allocator.limbo_units), "limbo_units is not what waits in limbo");
  }
}

void TableVerification::CheckEntries(uint64_t begin, uint64_t end, const Totals& totals, Findings* found,
                                     std::vector<Run>* runs, Counts* counts) const {
  const auto& allocator = context_.allocator();
  const uint64_t growing = allocator.growing_from.load(kAcquire);
  const uint64_t listed = growing == 0 ? totals.published : std::min(growing, totals.published);
  const uint64_t last = std::min(end * format::kUnitsPerGroup, listed);
  for (uint64_t unit = std::max(begin * format::kUnitsPerGroup, context_.head_units() + 1); unit < last;) {
    if (context_.IsTableUnit(unit)) {
      unit++;
      continue;
    }
    const TableEntry& entry = context_.entry(unit);
    EntryView view;
    if (!format::ReadEntry(entry, unit, &view) || !context_.ContainsRun(unit, view.size_class)) {
      found->Damaged(context_.OffsetOf(&entry),
                     entry.identity.load(kAcquire) == 0 ? "a unit belongs to no run" : "a table entry is damaged");
      // Where it ends, its neighbour tells.
      do unit++;
      while (unit < last && !context_.IsTableUnit(unit) && context_.entry(unit).identity.load(kAcquire) == 0);
      continue;
    }
    const uint64_t units = uint64_t{1} << view.size_class;
    for (uint64_t inside = unit + 1; inside < unit + units; inside++) {
      EntryView other;
      if (format::ReadEntry(context_.entry(inside), inside, &other)) {
        found->Damaged(context_.OffsetOf(&context_.entry(inside)), "a run lies inside another one");
      }
    }
    const uint64_t holes = CountHoles(context_, unit, units);
    if (view.kind == RunKind::kFree) {
      counts->free_units += units;
      counts->hollow_units += holes;
      CheckFreeLinks(unit, view.size_class, found);
    } else if (entry.previous.load(kAcquire) == unit) {
      counts->limbo_units += units;
    } else if (view.shard >= context_.shards()) {
      found->Damaged(context_.OffsetOf(&entry), "a run belongs to a shard that there is not");
    } else {
      // A free run that is being punched passes for a value run.
      if (holes != 0 && (view.kind != RunKind::kValue || holes != units)) {
        found->Damaged(context_.OffsetOf(&context_.entry(unit & ~(format::kUnitsPerHoleWord - 1)).holes),
                       "a run in use is marked as a hole");
      }
      runs->push_back({unit, view.incarnation, view.sequence, view.kind, view.shard});
    }
    unit += units;
  }
}

/** Each link is judged by what it leads to; where two claim one run, its own `previous` decides. */
void TableVerification::CheckFreeLinks(uint64_t unit, uint32_t size_class, Findings* found) const {
  const TableEntry& entry = context_.entry(unit);
  const auto& allocator = context_.allocator();
  const uint64_t units = uint64_t{1} << size_class;
  const Word& head = CountHoles(context_, unit, units) == units ? allocator.hollow_heads[size_class]
                                                                : allocator.free_heads[size_class];
  const uint64_t next = entry.next.load(kAcquire);
  const uint64_t previous = entry.previous.load(kAcquire);
  const auto points_to = [&](uint64_t from, uint64_t to) {
    if (from == 0) return head.load(kAcquire) == to;
    return IsFree(context_, from, size_class) && context_.entry(from).next.load(kAcquire) == to;
  };
  if (next != 0 && !IsFree(context_, next, size_class)) {
    found->Damaged(context_.OffsetOf(&entry.next), "a free list leads to what is not free");
  } else if (next != 0) {
    const TableEntry& other = context_.entry(next);
    const uint64_t back = other.previous.load(kAcquire);
    if (back != unit) {
      const bool other_claim = points_to(back, next);
      found->Damaged(context_.OffsetOf(other_claim ? &entry.next : &other.previous), "two links of a free list differ");
    }
  }
  if (points_to(previous, unit)) return;
  if (previous != 0 && !IsFree(context_, previous, size_class)) {
    found->Damaged(context_.OffsetOf(&entry.previous), "a free list leads to what is not free");
    return;
  }
  // Nothing that `previous` names leads here: that one's link, where it leads nowhere that agrees.
  const Word& link = previous == 0 ? head : context_.entry(previous).next;
  const uint64_t target = link.load(kAcquire);
  const bool agrees =
      target != 0 && IsFree(context_, target, size_class) && context_.entry(target).previous.load(kAcquire) == previous;
  found->Damaged(context_.OffsetOf(agrees ? &entry.previous : &link), "two links of a free list differ");
}

void TableVerification::CheckHeads(Findings* found) const {
  const auto& allocator = context_.allocator();
  for (uint32_t size_class = 0; size_class < format::kClasses; size_class++) {
    for (const Word* head : {&allocator.free_heads[size_class], &allocator.hollow_heads[size_class]}) {
      const uint64_t first = head->load(kAcquire);
      if (first != 0 && !IsFree(context_, first, size_class)) {
        found->Damaged(context_.OffsetOf(head), "a free list leads to what is not free");
      }
    }
  }
}

void TableVerification::CheckLimbo(const Totals& totals, uint64_t limbo_units, Findings* found) const {
  uint64_t units = 0;
  uint64_t steps = 0;
  for (const Word* head : {&context_.allocator().limbo_open, &context_.allocator().limbo_closing}) {
    const Word* link = head;
    for (uint64_t unit = link->load(kAcquire); unit != 0; unit = link->load(kAcquire)) {
      EntryView view;
      if (steps++ == kChainPerLook) return;
      if (!context_.ContainsRun(unit, 0) || !format::ReadEntry(context_.entry(unit), unit, &view) ||
          view.kind == RunKind::kFree || context_.entry(unit).previous.load(kAcquire) != unit) {
        found->Damaged(PlaceOfBadLink(context_, context_.OffsetOf(link), unit),
                       "limbo leads to what does not wait in it");
        return;
      }
      units += uint64_t{1} << view.size_class;
      link = &context_.entry(unit).next;
    }
  }
  if (limbo_units != 0 && units != limbo_units && units == totals.limbo_units) {
    found->Damaged(context_.OffsetOf(&context_.allocator().limbo_open), "what waits in limbo is not all on its list");
  }
}

// ───────────────────────────────────────────────────────────── what runs belong to

Status TableVerification::CheckChains() {
  if (shard_ == context_.shards()) {
    phase_ = Phase::kOwners;
    return Code::kOk;
  }
  const format::ShardControl& shard = context_.shard(shard_);
  std::optional<ShardLock> lock;
  if (!context_.read_only) {
    lock.emplace(context_, shard_);
    if (lock->status().code() == Code::kWouldBlock) return lock->status();
  }
  const auto walk = [&](const Memory& memory) -> Status {
    const uint64_t spare = memory.Load(context_.OffsetOf(&shard.spare_index_unit));
    if (spare != 0) index_units_.insert(spare);
    for (const Word* head : {&shard.index_units, &shard.dropped_index_units}) {
      uint64_t link = context_.OffsetOf(head);
      uint64_t unit = memory.Load(link);
      uint64_t previous = 0;
      for (uint64_t i = 0; unit != 0; i++) {
        EntryView view;
        if (!ReadRun(context_, unit, RunKind::kIndex, &view) || view.shard != shard_) {
          return Status::Corrupt("a chain of index units is broken", PlaceOfBadLink(context_, link, unit));
        }
        if (!index_units_.insert(unit).second && i > kChainPerLook) break;
        const uint64_t back = context_.OffsetOf(&context_.entry(unit).previous);
        if (head == &shard.index_units && memory.Load(back) != previous) {
          return Status::Corrupt("two links of a chain of index units differ", back);
        }
        previous = unit;
        link = context_.OffsetOf(&context_.entry(unit).next);
        unit = memory.Load(link);
      }
    }
    return Code::kOk;
  };
  // Index units are taken and given back under the shard's lock only. Who may not write believes what he saw where
  // nobody was at work in the allocator meanwhile.
  const bool idle = IsIdle();
  const Totals before = ReadTotals();
  const Status status =
      lock ? (lock->status().ok() ? walk({context_}) : lock->status()) : AtOneMoment(context_, shard_, walk);
  if (status.code() == Code::kWouldBlock) return status;
  if (!lock && !(idle && IsIdle() && ReadTotals() == before)) {
    if (++attempts_ < kAttempts) return Code::kWouldBlock;
    findings_->unseen_shards[shard_] = true;
  } else if (status.code() == Code::kCorrupt) {
    findings_->Damaged(status, context_.OffsetOf(&shard));
    findings_->unseen_shards[shard_] = true;
  }
  attempts_ = 0;
  shard_++;
  return Code::kOk;
}

bool TableVerification::IsSame(const Run& run) const {
  const TableEntry& entry = context_.entry(run.unit);
  EntryView view;
  return format::ReadEntry(entry, run.unit, &view) && view.kind == run.kind && view.incarnation == run.incarnation &&
         entry.previous.load(kAcquire) != run.unit;
}

Status TableVerification::IsOwned(const Run& run, bool* owned) const {
  *owned = true;
  // Released runs tell it themselves, always before what referred to them does: asked last.
  const auto unowned = [&] { *owned = !IsSame(run); };
  if (findings_->unseen_shards[run.shard]) return Code::kOk;
  if (run.kind == RunKind::kValue) {
    if (!findings_->IsReferred(run.unit)) unowned();
    return Code::kOk;
  }
  if (run.kind == RunKind::kIndex) {
    if (!index_units_.contains(run.unit)) unowned();
    return Code::kOk;
  }
  if (run.kind == RunKind::kUse) {
    if (context_.allocator().use_unit.load(kAcquire) != run.unit) unowned();
    return Code::kOk;
  }
  const format::ShardControl& shard = context_.shard(run.shard);
  return AtOneMoment(context_, run.shard, [&](const Memory& memory) -> Status {
    const auto load = [&](const Word& word) { return memory.Load(context_.OffsetOf(&word)); };
    *owned = true;
    if (run.kind == RunKind::kQueue) {
      const bool linked = load(shard.head) != 0 && run.sequence >= load(shard.tail_sequence) &&
                          run.sequence <= load(shard.head_sequence);
      if (linked || load(shard.next_head_unit) == run.unit || load(shard.retired_unit) == run.unit) return Code::kOk;
    } else {
      const uint64_t directory = load(shard.directory);
      const bool current = (directory & 0xFF) > format::kPieceDirectoryDepth &&
                           UnitOf((directory >> 8) * format::kPieceBytes) == run.unit;
      if (current || load(shard.spare_directory_unit) == run.unit) return Code::kOk;
    }
    unowned();
    return Code::kOk;
  });
}

Status TableVerification::CheckOwners() {
  for (size_t i = 0; i < kOwnersPerStep && at_ < runs_.size(); i++) {
    const Run& run = runs_[at_];
    bool owned = true;
    if (run.incarnation < next_incarnation_) {
      const Status status = IsOwned(run, &owned);
      if (status.code() == Code::kWouldBlock) return status;
      if (!status.ok()) owned = true;
    }
    if (!owned) findings_->Damaged(context_.OffsetOf(&context_.entry(run.unit)), "a run belongs to nothing");
    at_++;
  }
  if (at_ == runs_.size()) phase_ = Phase::kDone;
  return Code::kOk;
}

}  // namespace faultless::store
