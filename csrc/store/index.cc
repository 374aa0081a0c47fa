#include "store/index.h"

#include <bit>

#include "store/allocator.h"
#include "store/index_pieces.h"
#include "store/shared_bytes.h"

namespace faultless::store {
namespace {

using format::IndexLine;
using format::kEntriesPerLine;
using format::kLinesPerSegment;
using format::kPieceBytes;
using format::ShardControl;
using format::Word;

constexpr auto kRelaxed = std::memory_order_relaxed;

IndexLine& LineAt(const Context& context, uint64_t offset) {
  return *reinterpret_cast<IndexLine*>(context.base + offset);
}

uint64_t LineOffset(uint64_t segment, uint32_t line) { return segment + line % kLinesPerSegment * sizeof(IndexLine); }

/** Publishes a directory of twice the size. */
Status DoubleDirectory(const Context& context, uint32_t shard_index) {
  ShardControl& shard = context.shard(shard_index);
  SegmentRoute route;
  if (!RouteOf(context, shard.directory.load(kRelaxed), 0, &route) || !IsOwnDirectory(context, shard_index, route)) {
    return Status::Corrupt("a directory word points nowhere", context.OffsetOf(&shard.directory));
  }
  if (route.depth >= format::kMaxDirectoryDepth)
    return {Code::kStoreFull, "the index has reached its largest directory"};
  const uint32_t depth = route.depth + 1;
  const uint64_t words = uint64_t{1} << depth;
  uint64_t position = 0;
  FAULTLESS_TRY(TakeDirectory(context, shard_index, depth, &position));
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  for (uint64_t i = 0; i < words; i++) {
    const uint64_t from = context.WordAt(route.directory + i / 2 * 8).load(kRelaxed);
    context.WordAt(position + i * 8).store(from, std::memory_order_release);
  }
  return SwitchDirectory(context, shard_index, route, position, depth, &transaction);
}

}  // namespace

bool RouteOf(const Context& context, uint64_t directory_word, uint32_t tag, SegmentRoute* route) {
  route->depth = directory_word & 0xFF;
  route->directory = (directory_word >> 8) * kPieceBytes;
  if (route->depth > format::kMaxDirectoryDepth) return false;
  const uint64_t index = format::DirectoryBitsOf(tag) >> (format::kDirectoryBits - route->depth);
  route->word = route->directory + index * 8;
  return context.Contains(route->directory, uint64_t{8} << route->depth);
}

bool IsOwnDirectory(const Context& context, uint32_t shard_index, const SegmentRoute& route) {
  if (route.depth <= format::kPieceDirectoryDepth) return IsOwnPiece(context, shard_index, route.directory);
  format::EntryView view;
  return ReadRun(context, UnitOf(route.directory), format::RunKind::kDirectory, &view) && view.shard == shard_index &&
         route.directory % format::kUnitBytes == 0 && uint64_t{8} << route.depth <= RunBytes(view.size_class);
}

bool PlaceUnseen(const Context& context, uint64_t segment, uint32_t tag, uint64_t place) {
  const uint32_t home = format::LineOf(tag);
  for (uint32_t step = 0; step < format::kMaxProbeLines; step++) {
    IndexLine& line = LineAt(context, LineOffset(segment, home + step));
    for (uint32_t entry = 0; entry < kEntriesPerLine; entry++) {
      if (PlaceInLine(line, entry).load(kRelaxed) != 0) continue;
      const uint32_t half = entry + 1;
      Word& word = line.words[half / 2];
      const uint64_t mask = uint64_t{0xFFFF'FFFF} << (half % 2 * 32);
      word.store((word.load(kRelaxed) & ~mask) | uint64_t{tag} << (half % 2 * 32), std::memory_order_release);
      line.words[3 + entry].store(place, std::memory_order_release);
      for (uint32_t back = 0; back < step; back++) {
        Word& passed = LineAt(context, LineOffset(segment, home + back)).words[0];
        passed.store(passed.load(kRelaxed) + 1, std::memory_order_release);
      }
      return true;
    }
  }
  return false;
}

Status FreeSpareDirectory(const Context& context, uint32_t shard_index) {
  ShardControl& shard = context.shard(shard_index);
  const uint64_t unit = shard.spare_directory_unit.load(kRelaxed);
  if (unit == 0) return Code::kOk;
  return FreeRun(context, unit, {format::RunKind::kDirectory}, &shard.spare_directory_unit);
}

Status TakeDirectory(const Context& context, uint32_t shard_index, uint32_t depth, uint64_t* position) {
  ShardControl& shard = context.shard(shard_index);
  FAULTLESS_TRY(FreeSpareDirectory(context, shard_index));
  if (depth <= format::kPieceDirectoryDepth) return EnsurePieces(context, shard_index, 1, position);
  const uint64_t bytes = uint64_t{8} << depth;
  const uint64_t units = (bytes + format::kUnitBytes - 1) / format::kUnitBytes;
  const RunRequest request{format::RunKind::kDirectory, shard_index, 0, &shard.spare_directory_unit, nullptr};
  uint64_t unit;
  FAULTLESS_TRY(TakeRun(context, std::bit_width(units) - 1, request, Purpose::kUser, &unit));
  *position = unit * format::kUnitBytes;
  return PopulateFresh(context, *position, bytes);
}

Status SwitchDirectory(const Context& context, uint32_t shard_index, const SegmentRoute& before, uint64_t position,
                       uint32_t depth, Transaction* transaction) {
  ShardControl& shard = context.shard(shard_index);
  transaction->MoveStructure();
  transaction->Set(shard.directory, PackPiece(position, depth));
  if (depth <= format::kPieceDirectoryDepth) transaction->Set(shard.spare_pieces[0], 0);
  if (before.depth <= format::kPieceDirectoryDepth) {
    FAULTLESS_TRY(FreePiece(context, shard_index, transaction, before.directory));
    transaction->Set(shard.spare_directory_unit, 0);
  } else {
    transaction->Set(shard.spare_directory_unit, UnitOf(before.directory));
  }
  FAULTLESS_TRY(transaction->Commit());
  return FreeSpareDirectory(context, shard_index);
}

bool SegmentOf(const Context& context, uint64_t word, uint32_t depth, uint64_t* segment, uint32_t* local_depth) {
  *local_depth = word & 0xFF;
  *segment = (word >> 8) * kPieceBytes;
  return *local_depth <= depth && IsPiece(context, *segment);
}

Status FindEmptyPlace(const Context& context, uint32_t shard_index, uint32_t tag, IndexHit* hit,
                      const BatchChange* planned) {
  const ShardControl& shard = context.shard(shard_index);
  SegmentRoute route;
  uint64_t segment;
  uint32_t local_depth;
  if (!RouteOf(context, shard.directory.load(kRelaxed), tag, &route) ||
      !SegmentOf(context, context.WordAt(route.word).load(kRelaxed), route.depth, &segment, &local_depth) ||
      !IsOwnPiece(context, shard_index, segment)) {
    return Status::Corrupt("a directory entry points nowhere", context.OffsetOf(&shard.directory));
  }
  const uint32_t home = format::LineOf(tag);
  for (uint32_t step = 0; step < format::kInsertProbeLines; step++) {
    const uint64_t offset = LineOffset(segment, home + step);
    const IndexLine& line = LineAt(context, offset);
    for (uint32_t entry = 0; entry < kEntriesPerLine; entry++) {
      const Word& place = PlaceInLine(line, entry);
      if ((planned == nullptr ? place.load(kRelaxed) : planned->Get(place)) != 0) continue;
      *hit = IndexHit{offset, segment, entry, step, 0};
      return Code::kOk;
    }
  }
  return Code::kAbsent;
}

template <typename Change>
void InsertEntry(const Context& context, Change* change, const IndexHit& hit, uint32_t tag, uint64_t fingerprint,
                 uint64_t position) {
  IndexLine& line = LineAt(context, hit.line);
  const uint32_t half = hit.entry + 1;
  const Word& tags = line.words[half / 2];
  const uint64_t mask = uint64_t{0xFFFF'FFFF} << (half % 2 * 32);
  change->Set(tags, (change->Get(tags) & ~mask) | uint64_t{tag} << (half % 2 * 32));
  change->Set(PlaceInLine(line, hit.entry), format::PlaceOf(fingerprint, position));
  for (uint32_t back = 0; back < hit.steps; back++) {
    change->Add(LineAt(context, LineOffset(hit.segment, format::LineOf(tag) + back)).words[0], 1);
  }
}

template <typename Change>
void SwitchEntry(const Context& context, Change* change, const IndexHit& hit, uint64_t fingerprint, uint64_t position) {
  change->Set(PlaceInLine(LineAt(context, hit.line), hit.entry), format::PlaceOf(fingerprint, position));
}

template <typename Change>
void RemoveEntry(const Context& context, Change* change, const IndexHit& hit) {
  const IndexLine& line = LineAt(context, hit.line);
  const uint32_t tag = TagInLine(line, hit.entry, kRelaxed);
  change->Set(PlaceInLine(line, hit.entry), 0);
  for (uint32_t back = 0; back < hit.steps; back++) {
    const Word& passed = LineAt(context, LineOffset(hit.segment, format::LineOf(tag) + back)).words[0];
    // A count of zero is a damaged index: staying at zero is the harmless choice.
    if (static_cast<uint32_t>(change->Get(passed)) != 0) change->Add(passed, -1);
  }
}

template void InsertEntry(const Context&, Transaction*, const IndexHit&, uint32_t, uint64_t, uint64_t);
template void InsertEntry(const Context&, DirectChange*, const IndexHit&, uint32_t, uint64_t, uint64_t);
template void InsertEntry(const Context&, BatchChange*, const IndexHit&, uint32_t, uint64_t, uint64_t);
template void SwitchEntry(const Context&, Transaction*, const IndexHit&, uint64_t, uint64_t);
template void SwitchEntry(const Context&, DirectChange*, const IndexHit&, uint64_t, uint64_t);
template void SwitchEntry(const Context&, BatchChange*, const IndexHit&, uint64_t, uint64_t);
template void RemoveEntry(const Context&, Transaction*, const IndexHit&);
template void RemoveEntry(const Context&, DirectChange*, const IndexHit&);
template void RemoveEntry(const Context&, BatchChange*, const IndexHit&);

void PrefetchEntry(const Context& context, const ShardControl& shard, uint32_t tag) {
  const uint64_t directory_word = shard.directory.load(kRelaxed);
  SegmentRoute route;
  uint64_t segment;
  uint32_t local_depth;
  if (directory_word == 0 || !RouteOf(context, directory_word, tag, &route) ||
      !SegmentOf(context, context.WordAt(route.word).load(kRelaxed), route.depth, &segment, &local_depth)) {
    return;
  }
  __builtin_prefetch(context.base + LineOffset(segment, format::LineOf(tag)));
}

Status CreateIndex(const Context& context, uint32_t shard_index) {
  ShardControl& shard = context.shard(shard_index);
  uint64_t pieces[2];
  FAULTLESS_TRY(EnsurePieces(context, shard_index, 2, pieces));
  ZeroShared(context.base + pieces[1], kPieceBytes);
  context.WordAt(pieces[0]).store(PackPiece(pieces[1], 0), std::memory_order_release);
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  transaction.MoveStructure();
  transaction.Set(shard.directory, PackPiece(pieces[0], 0));
  for (const Word& spare : shard.spare_pieces) transaction.Set(spare, 0);
  transaction.Set(shard.entry_places, format::kEntriesPerSegment);
  return transaction.Commit();
}

Status SplitSegment(const Context& context, uint32_t shard_index, uint32_t tag) {
  ShardControl& shard = context.shard(shard_index);
  SegmentRoute route;
  uint64_t segment;
  uint32_t local_depth;
  const auto find = [&] {
    return RouteOf(context, shard.directory.load(kRelaxed), tag, &route) &&
           SegmentOf(context, context.WordAt(route.word).load(kRelaxed), route.depth, &segment, &local_depth) &&
           IsOwnDirectory(context, shard_index, route) && IsOwnPiece(context, shard_index, segment);
  };
  if (!find()) return Status::Corrupt("a directory entry points nowhere", context.OffsetOf(&shard.directory));
  if (local_depth == route.depth) {
    FAULTLESS_TRY(DoubleDirectory(context, shard_index));
    if (!find()) return Status::Corrupt("a directory entry points nowhere", context.OffsetOf(&shard.directory));
  }
  uint64_t halves[2];
  FAULTLESS_TRY(EnsurePieces(context, shard_index, 2, halves));
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  ZeroShared(context.base + halves[0], kPieceBytes);
  ZeroShared(context.base + halves[1], kPieceBytes);
  const uint32_t bit = format::kDirectoryBits - 1 - local_depth;
  for (uint32_t i = 0; i < kLinesPerSegment; i++) {
    const IndexLine& line = LineAt(context, LineOffset(segment, i));
    for (uint32_t entry = 0; entry < kEntriesPerLine; entry++) {
      const uint64_t place = PlaceInLine(line, entry).load(kRelaxed);
      if (place == 0) continue;
      const uint32_t entry_tag = TagInLine(line, entry, kRelaxed);
      const uint32_t half = format::DirectoryBitsOf(entry_tag) >> bit & 1;
      if (!PlaceUnseen(context, halves[half], entry_tag, place)) {
        return {Code::kStoreFull, "more keys share one place of the index than it can hold"};
      }
    }
  }
  const uint64_t index = format::DirectoryBitsOf(tag) >> (format::kDirectoryBits - route.depth);
  const uint64_t span = uint64_t{1} << (route.depth - local_depth);
  const uint64_t first = index & ~(span - 1);
  transaction.MoveStructure();
  transaction.Fill(context.WordAt(route.directory + first * 8), PackPiece(halves[0], local_depth + 1), span / 2);
  transaction.Fill(context.WordAt(route.directory + (first + span / 2) * 8), PackPiece(halves[1], local_depth + 1),
                   span / 2);
  FAULTLESS_TRY(FreePiece(context, shard_index, &transaction, segment));
  for (const Word& spare : shard.spare_pieces) transaction.Set(spare, 0);
  transaction.Add(shard.entry_places, format::kEntriesPerSegment);
  return transaction.Commit();
}

Status ReleaseDroppedIndex(const Context& context, uint32_t shard_index) {
  ShardControl& shard = context.shard(shard_index);
  if (shard.dropped_index_units.load(kRelaxed) == 0) return Code::kOk;
  return FreeFirstOfChain(context, &shard.dropped_index_units, {format::RunKind::kIndex, shard_index});
}

}  // namespace faultless::store
