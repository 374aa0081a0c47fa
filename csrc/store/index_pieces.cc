#include "store/index_pieces.h"

#include <algorithm>
#include <array>
#include <bit>

#include "store/allocator.h"

namespace faultless::store {
namespace {

using format::kPieceBytes;
using format::ShardControl;
using format::TableEntry;
using format::Word;

constexpr auto kRelaxed = std::memory_order_relaxed;

bool IsOwnUnit(const Context& context, uint32_t shard_index, uint64_t unit) {
  format::EntryView view;
  return ReadRun(context, unit, format::RunKind::kIndex, &view) && view.shard == shard_index;
}

Status DamagedLink(const Context& context, const Word& word) {
  return Status::Corrupt("a link between index units is damaged", context.OffsetOf(&word));
}

/** A link between units: a word of their entries, or half of one. */
struct Link {
  Word TableEntry::*word;
  uint32_t shift;
  uint64_t mask;
};
/** A doubly linked list of units. */
struct UnitList {
  Word* head;
  Link next;
  Link previous;
};

constexpr uint64_t kHalfWord = 0xFFFF'FFFF;
constexpr Link kFreeNext{&TableEntry::free_links, 0, kHalfWord};
constexpr Link kFreePrevious{&TableEntry::free_links, 32, kHalfWord};

uint64_t GetLink(const Context& context, const Transaction& transaction, uint64_t unit, const Link& link) {
  return transaction.Get(context.entry(unit).*link.word) >> link.shift & link.mask;
}

void SetLink(const Context& context, Transaction* transaction, uint64_t unit, const Link& link, uint64_t target) {
  const Word& word = context.entry(unit).*link.word;
  transaction->Set(word, (transaction->Get(word) & ~(link.mask << link.shift)) | target << link.shift);
}

Status Push(const Context& context, uint32_t shard_index, const UnitList& list, uint64_t unit,
            Transaction* transaction) {
  const uint64_t first = transaction->Get(*list.head);
  if (first != 0) {
    if (!IsOwnUnit(context, shard_index, first)) return DamagedLink(context, *list.head);
    SetLink(context, transaction, first, list.previous, unit);
  }
  SetLink(context, transaction, unit, list.next, first);
  SetLink(context, transaction, unit, list.previous, 0);
  transaction->Set(*list.head, unit);
  return Code::kOk;
}

/** Both neighbours must lead here: a damaged link would take others off their list. */
Status Unlink(const Context& context, uint32_t shard_index, const UnitList& list, uint64_t unit,
              Transaction* transaction) {
  const TableEntry& entry = context.entry(unit);
  const uint64_t next = GetLink(context, *transaction, unit, list.next);
  const uint64_t previous = GetLink(context, *transaction, unit, list.previous);
  if (previous != 0 && !IsOwnUnit(context, shard_index, previous))
    return DamagedLink(context, entry.*list.previous.word);
  const uint64_t here =
      previous == 0 ? transaction->Get(*list.head) : GetLink(context, *transaction, previous, list.next);
  if (here != unit) return DamagedLink(context, entry.*list.previous.word);
  if (next != 0) {
    if (!IsOwnUnit(context, shard_index, next) || GetLink(context, *transaction, next, list.previous) != unit) {
      return DamagedLink(context, entry.*list.next.word);
    }
    SetLink(context, transaction, next, list.previous, previous);
  }
  if (previous == 0) {
    transaction->Set(*list.head, next);
  } else {
    SetLink(context, transaction, previous, list.next, next);
  }
  return Code::kOk;
}

UnitList ChainOf(ShardControl* shard) {
  return {&shard->index_units, {&TableEntry::next, 0, ~uint64_t{0}}, {&TableEntry::previous, 0, ~uint64_t{0}}};
}

UnitList FreeListOf(ShardControl* shard, uint64_t free) {
  return {&shard->free_units[std::popcount(free) - 1], kFreeNext, kFreePrevious};
}

/** The unit's free pieces become `after`; it goes to the list that this belongs to. */
Status SetFreePieces(const Context& context, uint32_t shard_index, uint64_t unit, uint64_t after,
                     Transaction* transaction) {
  ShardControl& shard = context.shard(shard_index);
  const Word& word = context.entry(unit).free_pieces();
  const uint64_t before = transaction->Get(word);
  if (before > format::kAllPieces) return Status::Corrupt("free index pieces are damaged", context.OffsetOf(&word));
  if (before != 0) FAULTLESS_TRY(Unlink(context, shard_index, FreeListOf(&shard, before), unit, transaction));
  if (after != 0) FAULTLESS_TRY(Push(context, shard_index, FreeListOf(&shard, after), unit, transaction));
  transaction->Set(word, after);
  return Code::kOk;
}

/** Makes a free piece one of the spare ones: of a unit with up to `most` free ones, not of `avoid`. kAbsent: there is
 * none. */
Status TakePiece(const Context& context, uint32_t shard_index, const Word& spare, uint32_t most, uint64_t avoid) {
  ShardControl& shard = context.shard(shard_index);
  for (uint32_t i = 0; i < most; i++) {
    const Word* link = &shard.free_units[i];
    uint64_t unit = link->load(kRelaxed);
    if (avoid != 0 && unit == avoid) {
      link = &context.entry(avoid).free_links;
      unit = link->load(kRelaxed) & kHalfWord;
    }
    if (unit == 0) continue;
    if (!IsOwnUnit(context, shard_index, unit)) return DamagedLink(context, *link);
    const Word& word = context.entry(unit).free_pieces();
    const uint64_t free = word.load(kRelaxed);
    if (free > format::kAllPieces || static_cast<uint32_t>(std::popcount(free)) != i + 1) {
      return Status::Corrupt("free index pieces are damaged", context.OffsetOf(&word));
    }
    Transaction transaction(context, &shard.intent, &shard, shard_index);
    FAULTLESS_TRY(SetFreePieces(context, shard_index, unit, free & (free - 1), &transaction));
    transaction.Set(spare, unit * format::kUnitBytes + static_cast<uint64_t>(std::countr_zero(free)) * kPieceBytes);
    return transaction.Commit();
  }
  return Code::kAbsent;
}

/** Cuts a unit into free pieces, taking one where no spare one is left. */
Status AddUnit(const Context& context, uint32_t shard_index) {
  ShardControl& shard = context.shard(shard_index);
  uint64_t unit = shard.spare_index_unit.load(kRelaxed);
  if (unit == 0) {
    const RunRequest request{format::RunKind::kIndex, shard_index, 0, &shard.spare_index_unit, nullptr};
    FAULTLESS_TRY(TakeRun(context, 0, request, Purpose::kUser, &unit));
  }
  if (!IsOwnUnit(context, shard_index, unit))
    return Status::Corrupt("a spare unit is none", context.OffsetOf(&shard.spare_index_unit));
  FAULTLESS_TRY(PopulateFresh(context, unit * format::kUnitBytes, format::kUnitBytes));
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  FAULTLESS_TRY(Push(context, shard_index, ChainOf(&shard), unit, &transaction));
  // What the word said before is of another use of the unit.
  transaction.Set(context.entry(unit).free_pieces(), 0);
  FAULTLESS_TRY(SetFreePieces(context, shard_index, unit, format::kAllPieces, &transaction));
  transaction.Set(shard.spare_index_unit, 0);
  return transaction.Commit();
}

}  // namespace

Status PopulateFresh(const Context& context, uint64_t position, uint64_t bytes) {
  static constexpr std::array<uint64_t, format::kUnitBytes / 8> kZeros{};
  // A recovery begins with nothing in memory, and takes a whole index of runs: written over, their pages need not be
  // read, one by one, from the device first.
  for (uint64_t at = 0; context.recovering && at < bytes; at += sizeof kZeros) {
    FAULTLESS_TRY(context.storage->Write(position + at, kZeros.data(), std::min(bytes - at, sizeof kZeros)));
  }
  return context.storage->PopulateWrite(position, bytes);
}

bool IsPiece(const Context& context, uint64_t position) {
  return position % kPieceBytes == 0 && context.Contains(position, kPieceBytes);
}

bool IsOwnPiece(const Context& context, uint32_t shard_index, uint64_t position) {
  return IsPiece(context, position) && IsOwnUnit(context, shard_index, UnitOf(position));
}

Status EnsurePieces(const Context& context, uint32_t shard_index, uint32_t count, uint64_t* pieces) {
  ShardControl& shard = context.shard(shard_index);
  for (uint32_t found = 0; found < count;) {
    const Word& word = shard.spare_pieces[found];
    const uint64_t spare = word.load(kRelaxed);
    if (spare != 0) {
      if (!IsOwnPiece(context, shard_index, spare) || (found > 0 && spare == pieces[0]))
        return Status::Corrupt("a spare piece is none", context.OffsetOf(&word));
      pieces[found++] = spare;
      continue;
    }
    const Status taken = TakePiece(context, shard_index, word, format::kPiecesPerUnit, 0);
    if (taken.code() != Code::kAbsent) {
      FAULTLESS_TRY(taken);
      continue;
    }
    FAULTLESS_TRY(AddUnit(context, shard_index));
  }
  return Code::kOk;
}

Status EnsureBetterPiece(const Context& context, uint32_t shard_index, uint64_t position, uint64_t* piece) {
  const Word& spare = context.shard(shard_index).spare_pieces[0];
  if (spare.load(kRelaxed) != 0) return Code::kAbsent;  // it would be taken wherever it is
  const uint64_t unit = UnitOf(position);
  const uint64_t free = context.entry(unit).free_pieces().load(kRelaxed);
  if (free == 0 || free > format::kAllPieces) return Code::kAbsent;
  const auto pieces = static_cast<uint32_t>(std::popcount(free));
  FAULTLESS_TRY(TakePiece(context, shard_index, spare, pieces, unit));
  return EnsurePieces(context, shard_index, 1, piece);
}

Status FreePiece(const Context& context, uint32_t shard_index, Transaction* transaction, uint64_t position) {
  const uint64_t unit = UnitOf(position);
  const uint64_t bit = uint64_t{1} << (position % format::kUnitBytes / kPieceBytes);
  const uint64_t free = transaction->Get(context.entry(unit).free_pieces());
  return (free & bit) != 0 ? Status() : SetFreePieces(context, shard_index, unit, free | bit, transaction);
}

Status ReleaseEmptyUnit(const Context& context, uint32_t shard_index) {
  ShardControl& shard = context.shard(shard_index);
  const RunUse use{format::RunKind::kIndex, shard_index};
  const auto release_spare = [&]() -> Status {
    const uint64_t spare = shard.spare_index_unit.load(kRelaxed);
    return spare == 0 ? Status() : FreeRun(context, spare, use, &shard.spare_index_unit);
  };
  FAULTLESS_TRY(release_spare());
  const Word& head = shard.free_units[format::kPiecesPerUnit - 1];
  const uint64_t unit = head.load(kRelaxed);
  if (unit == 0) return Code::kOk;
  if (!IsOwnUnit(context, shard_index, unit)) return DamagedLink(context, head);
  const Word& word = context.entry(unit).free_pieces();
  if (word.load(kRelaxed) != format::kAllPieces) {
    return Status::Corrupt("free index pieces are damaged", context.OffsetOf(&word));
  }
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  FAULTLESS_TRY(SetFreePieces(context, shard_index, unit, 0, &transaction));
  FAULTLESS_TRY(Unlink(context, shard_index, ChainOf(&shard), unit, &transaction));
  transaction.Set(shard.spare_index_unit, unit);
  FAULTLESS_TRY(transaction.Commit());
  return release_spare();
}

void DropUnits(const Context& context, uint32_t shard_index, Transaction* transaction) {
  ShardControl& shard = context.shard(shard_index);
  uint64_t first = shard.index_units.load(kRelaxed);
  const uint64_t spare = shard.spare_index_unit.load(kRelaxed);
  if (spare != 0 && IsOwnUnit(context, shard_index, spare)) {
    transaction->Set(context.entry(spare).next, first);
    first = spare;
  }
  transaction->Set(shard.dropped_index_units, first);
  transaction->Set(shard.index_units, 0);
  transaction->Set(shard.spare_index_unit, 0);
  for (const Word& head : shard.free_units) transaction->Set(head, 0);
  for (const Word& piece : shard.spare_pieces) transaction->Set(piece, 0);
}

}  // namespace faultless::store
