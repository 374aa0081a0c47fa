#include "store/allocator.h"

#include <bit>

#include "store/holes.h"
#include "store/lock.h"
#include "store/transaction.h"

namespace faultless::store {
namespace {

using format::EntryView;
using format::RunKind;
using format::TableEntry;
using format::Word;

constexpr uint64_t kMaxGrowthUnits = 256;  // 16 MiB

constexpr uint64_t UnitsOf(uint32_t size_class) { return uint64_t{1} << size_class; }

Transaction AllocatorTransaction(const Context& context) { return {context, &context.allocator().intent, nullptr, 0}; }

/** What is left by deletes and cleaning is enough for a flush, which may need a fresh extent in each shard. */
uint64_t ReserveUnits(const Context& context, Purpose purpose) {
  if (context.recovering || purpose == Purpose::kFlush) return 0;
  return purpose == Purpose::kReserve ? context.shards() : 2 * context.shards();
}

/** A free run on the lists, as the transaction sees it. */
bool IsFree(const Context& context, const Transaction& transaction, uint64_t unit, uint32_t size_class) {
  const TableEntry& entry = context.entry(unit);
  return transaction.Get(entry.identity) == format::IdentityOf(RunKind::kFree, size_class, 0, 0, 0, unit);
}

/** Where a list or chain names a unit that is none of the store's. */
Status DamagedLink(const Context& context, const Word& word) {
  return Status::Corrupt("a link between runs is damaged", context.OffsetOf(&word));
}

/** The list of a free run: those without any space are kept apart, so that what has space is used first. */
Word& FreeHead(const Context& context, const Transaction& transaction, uint64_t unit, uint32_t size_class) {
  auto& allocator = context.allocator();
  const uint64_t units = UnitsOf(size_class);
  const bool hollow = CountHoles(context, transaction, unit, units) == units;
  return hollow ? allocator.hollow_heads[size_class] : allocator.free_heads[size_class];
}

Status PushFree(const Context& context, Transaction* transaction, uint64_t unit, uint32_t size_class) {
  TableEntry& entry = context.entry(unit);
  Word& head = FreeHead(context, *transaction, unit, size_class);
  const uint64_t first = transaction->Get(head);
  if (first != 0 && !context.ContainsRun(first, size_class)) return DamagedLink(context, head);
  transaction->Set(entry.identity, format::IdentityOf(RunKind::kFree, size_class, 0, 0, 0, unit));
  transaction->Set(entry.incarnation, 0);
  transaction->Set(entry.sequence, 0);
  transaction->Set(entry.next, first);
  transaction->Set(entry.previous, 0);
  if (first != 0) transaction->Set(context.entry(first).previous, unit);
  transaction->Set(head, unit);
  return Code::kOk;
}

Status Unlink(const Context& context, Transaction* transaction, uint64_t unit, uint32_t size_class) {
  TableEntry& entry = context.entry(unit);
  Word& head = FreeHead(context, *transaction, unit, size_class);
  const uint64_t next = transaction->Get(entry.next);
  const uint64_t previous = transaction->Get(entry.previous);
  if ((next != 0 && !context.ContainsRun(next, size_class)) ||
      (previous != 0 && !context.ContainsRun(previous, size_class))) {
    return DamagedLink(context, entry.next);
  }
  if (next != 0) transaction->Set(context.entry(next).previous, previous);
  if (previous != 0) {
    transaction->Set(context.entry(previous).next, next);
  } else {
    transaction->Set(head, next);
  }
  return Code::kOk;
}

/** Largest class of a run that may begin at `unit` and ends at `end` at most. */
uint32_t LargestClass(uint64_t unit, uint64_t end) {
  const uint32_t aligned = unit == 0 ? format::kMaxClass : static_cast<uint32_t>(std::countr_zero(unit));
  const uint32_t fits = static_cast<uint32_t>(std::bit_width(end - unit)) - 1;
  return std::min({aligned, fits, format::kMaxClass});
}

/** Where a run of `size_class` that begins at `from` or later can begin. */
uint64_t FirstPlace(const Context& context, uint64_t from, uint32_t size_class) {
  uint64_t unit = from;
  while (true) {
    unit = (unit + UnitsOf(size_class) - 1) & ~(UnitsOf(size_class) - 1);
    if (unit > context.head_units() && !context.IsTableUnit(unit)) return unit;
    unit++;
  }
}

/** Frees the run in `transaction`, joined with its free buddies. */
Status Release(const Context& context, Transaction* transaction, uint64_t unit, uint32_t size_class) {
  transaction->Add(context.allocator().free_units, static_cast<int64_t>(UnitsOf(size_class)));
  const uint64_t holes = CountHoles(context, *transaction, unit, UnitsOf(size_class));
  if (holes != 0) transaction->Add(context.allocator().hollow_units, static_cast<int64_t>(holes));
  while (size_class < format::kMaxClass) {
    const uint64_t buddy = unit ^ UnitsOf(size_class);
    const uint64_t joined = std::min(unit, buddy);
    if (!context.ContainsRun(buddy, size_class) || !context.ContainsRun(joined, size_class + 1) ||
        !IsFree(context, *transaction, buddy, size_class)) {
      break;
    }
    FAULTLESS_TRY(Unlink(context, transaction, buddy, size_class));
    transaction->Set(context.entry(std::max(unit, buddy)).identity, 0);
    unit = joined;
    size_class++;
  }
  return PushFree(context, transaction, unit, size_class);
}

/**
 * Lists the units from `growing_from` to the published end, one run a transaction: a death in between leaves the rest
 * to whoever takes the allocator's lock next.
 */
Status FinishGrowth(const Context& context) {
  auto& allocator = context.allocator();
  const uint64_t published = context.PublishedUnits();
  while (true) {
    const uint64_t unit = allocator.growing_from.load(std::memory_order_relaxed);
    if (unit == 0) return Code::kOk;
    if (unit < context.head_units() + 1 || unit > published) return DamagedLink(context, allocator.growing_from);
    Transaction transaction = AllocatorTransaction(context);
    if (unit == published) {
      transaction.Set(allocator.growing_from, 0);
    } else if (context.IsTableUnit(unit)) {
      transaction.Set(allocator.growing_from, unit + 1);
    } else {
      const uint32_t size_class = LargestClass(unit, published);
      FAULTLESS_TRY(Release(context, &transaction, unit, size_class));
      transaction.Set(allocator.growing_from, unit + UnitsOf(size_class));
    }
    FAULTLESS_TRY(transaction.Commit());
  }
}

/** The first list from `size_class` up that is not empty, or nullptr. */
const Word* FirstOfClass(const Word (&heads)[format::kClasses], uint32_t size_class) {
  for (uint32_t found = size_class; found <= format::kMaxClass; found++) {
    if (heads[found].load(std::memory_order_relaxed) != 0) return &heads[found];
  }
  return nullptr;
}

/** Takes a run of `size_class` out of the first run of the list. Of two halves that with fewer holes is used. */
Status Split(const Context& context, Transaction* transaction, const Word& head, uint32_t size_class, uint64_t* unit) {
  const auto& allocator = context.allocator();
  const bool hollow = &head >= allocator.hollow_heads;
  uint32_t found = static_cast<uint32_t>(&head - (hollow ? allocator.hollow_heads : allocator.free_heads));
  uint64_t taken = head.load(std::memory_order_relaxed);
  if (!context.ContainsRun(taken, found) || !IsFree(context, *transaction, taken, found) ||
      &FreeHead(context, *transaction, taken, found) != &head) {
    return DamagedLink(context, head);
  }
  FAULTLESS_TRY(Unlink(context, transaction, taken, found));
  while (found > size_class) {
    found--;
    const uint64_t other = taken + UnitsOf(found);
    const bool upper = CountHoles(context, *transaction, other, UnitsOf(found)) <
                       CountHoles(context, *transaction, taken, UnitsOf(found));
    FAULTLESS_TRY(PushFree(context, transaction, upper ? taken : other, found));
    if (upper) taken = other;
  }
  *unit = taken;
  return Code::kOk;
}

/** Makes a run that is on no list what was asked for. */
void Use(const Context& context, Transaction* transaction, uint64_t unit, uint32_t size_class,
         const RunRequest& request) {
  auto& allocator = context.allocator();
  TableEntry& entry = context.entry(unit);
  const uint64_t incarnation = allocator.next_incarnation.load(std::memory_order_relaxed);
  transaction->Add(allocator.free_units, -static_cast<int64_t>(UnitsOf(size_class)));
  transaction->Set(entry.incarnation, incarnation);
  transaction->Set(entry.sequence, request.sequence);
  transaction->Set(entry.next, request.chain != nullptr ? transaction->Get(*request.chain) : 0);
  transaction->Set(entry.previous, 0);
  transaction->Set(entry.wasted_bytes, 0);
  transaction->Set(entry.identity,
                   format::IdentityOf(request.kind, size_class, request.shard, incarnation, request.sequence, unit));
  if (request.chain != nullptr) transaction->Set(*request.chain, unit);
  if (request.anchor != nullptr) transaction->Set(*request.anchor, unit);
  // Last: a run whose incarnation is below it has its anchor already (verification asks so).
  transaction->Set(allocator.next_incarnation, incarnation + 1);
}

/**
 * Makes the file longer, by as many units as are `missing` and by a run of `size_class` where `run` says so. The
 * allocator's lock is held.
 */
Status Grow(const Context& context, uint64_t missing, bool run, uint32_t size_class) {
  auto& allocator = context.allocator();
  const uint64_t begin = allocator.published_units.load(std::memory_order_acquire);
  if (begin < context.head_units() + 1 || begin > context.max_units()) {
    return DamagedLink(context, allocator.published_units);
  }
  const uint64_t run_end = run ? FirstPlace(context, begin, size_class) + UnitsOf(size_class) : begin;
  if (run_end > context.max_units()) return {Code::kStoreFull, "the store has reached maxBytes"};
  const uint64_t needed_end = std::max(run_end, std::min(begin + missing, context.max_units()));
  uint64_t end = std::min(std::max(needed_end, begin + std::min(begin / 16, kMaxGrowthUnits)), context.max_units());
  Status status = context.storage->Reserve(begin * format::kUnitBytes, (end - begin) * format::kUnitBytes);
  if (status.code() == Code::kNoSpace && end > needed_end) {
    end = needed_end;
    status = context.storage->Reserve(begin * format::kUnitBytes, (end - begin) * format::kUnitBytes);
  }
  FAULTLESS_TRY(status);
  // Published before they are listed: the entries of a new group's table lie in what is published.
  allocator.growing_from.store(begin, std::memory_order_release);
  allocator.published_units.store(end, std::memory_order_release);
  return FinishGrowth(context);
}

/** Reserves the space of a free run of the list, of `most` units or fewer. *units: of the run. */
Status FillHoles(const Context& context, const Word& head, uint64_t most, uint64_t* units) {
  auto& allocator = context.allocator();
  const auto found = static_cast<uint32_t>(&head - allocator.hollow_heads);
  const uint32_t size_class = std::min(found, static_cast<uint32_t>(std::bit_width(most)) - 1);
  *units = UnitsOf(size_class);
  Transaction transaction = AllocatorTransaction(context);
  uint64_t unit;
  FAULTLESS_TRY(Split(context, &transaction, head, size_class, &unit));
  FAULTLESS_TRY(context.storage->Reserve(unit * format::kUnitBytes, *units * format::kUnitBytes));
  transaction.Add(allocator.free_units, -static_cast<int64_t>(*units));
  transaction.Add(allocator.hollow_units, -static_cast<int64_t>(*units));
  MarkHoles(context, &transaction, unit, *units, false);
  FAULTLESS_TRY(Release(context, &transaction, unit, size_class));
  return transaction.Commit();
}

/** Gives so many more free units space: holes first, then growth, as far as max_bytes. kNoSpace: some may have got it.
 */
Status AddSpace(const Context& context, uint64_t missing) {
  while (missing > 0) {
    const Word* const head = FirstOfClass(context.allocator().hollow_heads, 0);
    if (head == nullptr) {
      return context.PublishedUnits() < context.max_units() ? Grow(context, missing, false, 0) : Status();
    }
    uint64_t units;
    FAULTLESS_TRY(FillHoles(context, *head, missing, &units));
    missing -= units;
  }
  return Code::kOk;
}

bool IsUsed(const Context& context, uint64_t unit, const RunUse& use, EntryView* view) {
  return ReadRun(context, unit, use.kind, view) && (use.shard == kAnyShard || use.shard == view->shard) &&
         (use.incarnation == kAnyIncarnation || use.incarnation == view->incarnation);
}

bool IsInLimbo(const Context& context, uint64_t unit) {
  return context.entry(unit).previous.load(std::memory_order_relaxed) == unit;
}

}  // namespace

bool ReadRun(const Context& context, uint64_t unit, RunKind kind, EntryView* view) {
  if (!context.ContainsRun(unit, 0)) return false;
  return format::ReadEntry(context.entry(unit), unit, view) && view->kind == kind &&
         context.ContainsRun(unit, view->size_class);
}

uint64_t FreeUnitsWithSpace(const Context& context) {
  const auto& allocator = context.allocator();
  const uint64_t free = allocator.free_units.load(std::memory_order_relaxed);
  const uint64_t hollow = allocator.hollow_units.load(std::memory_order_relaxed);
  return free > hollow ? free - hollow : 0;
}

uint64_t KeptUnits(const Context& context, Purpose purpose) {
  if (context.recovering || purpose == Purpose::kFlush) return 0;
  const uint64_t others = context.head_units() + 1 + context.allocator().free_units.load(std::memory_order_relaxed);
  const uint64_t published = context.PublishedUnits();
  const uint64_t used = published > others ? published - others : 0;
  const uint64_t kept = std::min<uint64_t>(2 * context.shards(), used * 3 / 7 + 1);
  if (purpose == Purpose::kUser) return kept;
  // Deletes need a fresh extent in each shard before they give anything back.
  const uint64_t shards = context.shards();
  return std::max(kept / 4, std::min(kept / 3, kept > shards ? kept - shards : 0));
}

uint64_t AvailableUnits(const Context& context) {
  const auto& allocator = context.allocator();
  const uint64_t published = context.PublishedUnits();
  return allocator.free_units.load(std::memory_order_acquire) + (context.max_units() - published);
}

Status TakeRun(const Context& context, uint32_t size_class, const RunRequest& request, Purpose purpose,
               uint64_t* unit) {
  const AllocatorLock lock(context);
  FAULTLESS_TRY(lock.status());
  FAULTLESS_TRY(FinishGrowth(context));
  auto& allocator = context.allocator();
  if (size_class > format::kMaxClass) return {Code::kStoreFull, "no run is that large"};
  if (AvailableUnits(context) < UnitsOf(size_class) + ReserveUnits(context, purpose)) {
    return {Code::kStoreFull, "the store has reached maxBytes"};
  }
  // The reserve is space that the file has: when it is needed, the device may be full.
  const uint64_t wanted = UnitsOf(size_class) + KeptUnits(context, purpose);
  const uint64_t with_space = FreeUnitsWithSpace(context);
  if (with_space < wanted) FAULTLESS_TRY(AddSpace(context, wanted - with_space));
  const auto find = [&]() -> const Word* {
    const Word* found = FirstOfClass(allocator.free_heads, size_class);
    return found != nullptr ? found : FirstOfClass(allocator.hollow_heads, size_class);
  };
  const Word* head = find();
  if (head == nullptr) {
    FAULTLESS_TRY(Grow(context, 0, true, size_class));
    head = find();
    if (head == nullptr) return Status::Corrupt("growth added no run", context.OffsetOf(&allocator.free_heads[0]));
  }
  Transaction transaction = AllocatorTransaction(context);
  uint64_t taken;
  FAULTLESS_TRY(Split(context, &transaction, *head, size_class, &taken));
  const uint64_t holes = CountHoles(context, transaction, taken, UnitsOf(size_class));
  // Before anybody may store to it: a full disk is an error here, and a fault never.
  if (holes != 0 || allocator.reserve_taken.load(std::memory_order_relaxed) != 0) {
    FAULTLESS_TRY(context.storage->Reserve(taken * format::kUnitBytes, UnitsOf(size_class) * format::kUnitBytes));
  }
  if (holes != 0) {
    MarkHoles(context, &transaction, taken, UnitsOf(size_class), false);
    transaction.Add(allocator.hollow_units, -static_cast<int64_t>(holes));
  }
  Use(context, &transaction, taken, size_class, request);
  FAULTLESS_TRY(transaction.Commit());
  *unit = taken;
  return Code::kOk;
}

Status TakeRunToPunch(const Context& context, uint32_t largest_class, const Word* chain, uint64_t* unit,
                      uint32_t* size_class) {
  const AllocatorLock lock(context);
  FAULTLESS_TRY(lock.status());
  FAULTLESS_TRY(FinishGrowth(context));
  auto& allocator = context.allocator();
  uint32_t found = format::kClasses;
  while (found > 0 && allocator.free_heads[found - 1].load(std::memory_order_relaxed) == 0) found--;
  if (found == 0) return Code::kAbsent;
  *size_class = std::min(found - 1, largest_class);
  Transaction transaction = AllocatorTransaction(context);
  FAULTLESS_TRY(Split(context, &transaction, allocator.free_heads[found - 1], *size_class, unit));
  const uint64_t holes = CountHoles(context, transaction, *unit, UnitsOf(*size_class));
  MarkHoles(context, &transaction, *unit, UnitsOf(*size_class), true);
  if (holes != 0) transaction.Add(allocator.hollow_units, -static_cast<int64_t>(holes));
  transaction.Add(allocator.punches, 1);
  Use(context, &transaction, *unit, *size_class, {RunKind::kValue, 0, 0, nullptr, chain});
  return transaction.Commit();
}

Status FreeRun(const Context& context, uint64_t unit, const RunUse& use, const Word* anchor) {
  const AllocatorLock lock(context);
  FAULTLESS_TRY(lock.status());
  Transaction transaction = AllocatorTransaction(context);
  EntryView view;
  if (IsUsed(context, unit, use, &view) && !IsInLimbo(context, unit)) {
    FAULTLESS_TRY(Release(context, &transaction, unit, view.size_class));
  } else if (anchor == nullptr) {
    return Code::kOk;
  }
  if (anchor != nullptr) transaction.Set(*anchor, 0);
  return transaction.Commit();
}

Status FreeFirstOfChain(const Context& context, const Word* head, const RunUse& use) {
  const AllocatorLock lock(context);
  FAULTLESS_TRY(lock.status());
  const uint64_t unit = head->load(std::memory_order_relaxed);
  if (unit == 0) return Code::kOk;
  EntryView view;
  if (!IsUsed(context, unit, use, &view)) return DamagedLink(context, *head);
  Transaction transaction = AllocatorTransaction(context);
  transaction.Set(*head, view.next);
  FAULTLESS_TRY(Release(context, &transaction, unit, view.size_class));
  return transaction.Commit();
}

Status RetireRun(const Context& context, uint64_t unit, const RunUse& use, const Word* anchor) {
  const AllocatorLock lock(context);
  FAULTLESS_TRY(lock.status());
  auto& allocator = context.allocator();
  Transaction transaction = AllocatorTransaction(context);
  EntryView view;
  if (IsUsed(context, unit, use, &view) && !IsInLimbo(context, unit)) {
    transaction.Set(context.entry(unit).previous, unit);
    transaction.Set(context.entry(unit).next, transaction.Get(allocator.limbo_open));
    transaction.Set(allocator.limbo_open, unit);
    transaction.Add(allocator.limbo_units, static_cast<int64_t>(UnitsOf(view.size_class)));
  } else if (anchor == nullptr) {
    return Code::kOk;
  }
  if (anchor != nullptr) transaction.Set(*anchor, 0);
  return transaction.Commit();
}

Status BeginClosingLimbo(const Context& context) {
  const AllocatorLock lock(context);
  FAULTLESS_TRY(lock.status());
  auto& allocator = context.allocator();
  if (allocator.limbo_closing.load(std::memory_order_relaxed) != 0) return Code::kOk;
  Transaction transaction = AllocatorTransaction(context);
  transaction.Set(allocator.limbo_closing, transaction.Get(allocator.limbo_open));
  transaction.Set(allocator.limbo_open, 0);
  return transaction.Commit();
}

Status FreeClosedLimbo(const Context& context) {
  auto& allocator = context.allocator();
  while (true) {
    const AllocatorLock lock(context);
    FAULTLESS_TRY(lock.status());
    const uint64_t unit = allocator.limbo_closing.load(std::memory_order_relaxed);
    if (unit == 0) return Code::kOk;
    EntryView view;
    const bool retired =
        ReadRun(context, unit, RunKind::kQueue, &view) || ReadRun(context, unit, RunKind::kValue, &view);
    if (!retired || !IsInLimbo(context, unit)) return DamagedLink(context, allocator.limbo_closing);
    Transaction transaction = AllocatorTransaction(context);
    transaction.Set(allocator.limbo_closing, view.next);
    transaction.Add(allocator.limbo_units, -static_cast<int64_t>(UnitsOf(view.size_class)));
    FAULTLESS_TRY(Release(context, &transaction, unit, view.size_class));
    FAULTLESS_TRY(transaction.Commit());
  }
}

Status AddFreeUnits(const Context& context, uint64_t begin, uint64_t end) {
  for (uint64_t unit = begin; unit < end;) {
    if (context.IsTableUnit(unit)) {
      unit++;
      continue;
    }
    const uint32_t size_class = LargestClass(unit, end);
    Transaction transaction = AllocatorTransaction(context);
    FAULTLESS_TRY(Release(context, &transaction, unit, size_class));
    FAULTLESS_TRY(transaction.Commit());
    unit += UnitsOf(size_class);
  }
  return Code::kOk;
}

}  // namespace faultless::store
