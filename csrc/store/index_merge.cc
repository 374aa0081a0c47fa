#include "store/index_merge.h"

#include "store/index.h"
#include "store/index_pieces.h"
#include "store/lock.h"
#include "store/shared_bytes.h"

namespace faultless::store {
namespace {

using format::IndexLine;
using format::kDirectoryBits;
using format::kEntriesPerLine;
using format::kEntriesPerSegment;
using format::kLinesPerSegment;
using format::kPieceBytes;
using format::ShardControl;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr uint64_t kPrefixEnd = uint64_t{1} << kDirectoryBits;
constexpr uint32_t kMostMerged = kEntriesPerSegment / 2;
constexpr uint32_t kSampleLines = 16;
constexpr uint64_t kWritesPerLook = 16;
constexpr uint64_t kAsked = kPrefixEnd;  // of the cursor
constexpr int kMostReleased = 3;         // by one step: those of two segments, and one that a death left behind

/** A segment, and the stretch of the directory that leads to it. */
struct Stretch {
  SegmentRoute route;
  uint64_t first = 0;  // file offset of its first directory word
  uint64_t words = 0;  // directory words
  uint64_t segment = 0;
  uint32_t local_depth = 0;
  uint64_t begin = 0;  // prefixes
  uint64_t end = 0;
};

Status FindStretch(const Context& context, uint32_t shard_index, uint64_t prefix, Stretch* stretch) {
  const ShardControl& shard = context.shard(shard_index);
  if (!RouteOf(context, shard.directory.load(kRelaxed), static_cast<uint32_t>(prefix << 8), &stretch->route) ||
      !IsOwnDirectory(context, shard_index, stretch->route)) {
    return Status::Corrupt("a directory word points nowhere", context.OffsetOf(&shard.directory));
  }
  const SegmentRoute& route = stretch->route;
  if (!SegmentOf(context, context.WordAt(route.word).load(kRelaxed), route.depth, &stretch->segment,
                 &stretch->local_depth) ||
      !IsOwnPiece(context, shard_index, stretch->segment)) {
    return Status::Corrupt("a directory entry points nowhere", route.word);
  }
  const uint64_t span = uint64_t{1} << (kDirectoryBits - stretch->local_depth);
  stretch->begin = prefix & ~(span - 1);
  stretch->end = stretch->begin + span;
  stretch->words = uint64_t{1} << (route.depth - stretch->local_depth);
  stretch->first = route.directory + (stretch->begin >> (kDirectoryBits - route.depth)) * 8;
  return Code::kOk;
}

uint32_t CountLine(const Context& context, uint64_t segment, uint32_t line) {
  const auto& at = *reinterpret_cast<const IndexLine*>(context.base + segment + line * sizeof(IndexLine));
  uint32_t entries = 0;
  for (uint32_t i = 0; i < kEntriesPerLine; i++) entries += PlaceInLine(at, i).load(kRelaxed) != 0 ? 1 : 0;
  return entries;
}

/** Whether both together have few enough entries. A pair with many is told by its first lines: hashes are even. */
bool AreSparse(const Context& context, uint64_t a, uint64_t b) {
  uint32_t entries = 0;
  for (uint32_t line = 0; line < kLinesPerSegment; line++) {
    entries += CountLine(context, a, line) + CountLine(context, b, line);
    if (entries > kMostMerged) return false;
    if (line == kSampleLines && entries > 2 * kMostMerged * kSampleLines / kLinesPerSegment) return false;
  }
  return true;
}

/** False: a line would be too far from home. */
bool CopyEntries(const Context& context, uint64_t from, uint64_t to) {
  for (uint32_t i = 0; i < kLinesPerSegment; i++) {
    const auto& line = *reinterpret_cast<const IndexLine*>(context.base + from + i * sizeof(IndexLine));
    for (uint32_t entry = 0; entry < kEntriesPerLine; entry++) {
      const uint64_t place = PlaceInLine(line, entry).load(kRelaxed);
      if (place != 0 && !PlaceUnseen(context, to, TagInLine(line, entry, kRelaxed), place)) return false;
    }
  }
  return true;
}

/** Where a word of the stretch says something else, filling it would lose a segment. */
Status CheckWords(const Context& context, const Stretch& stretch) {
  for (uint64_t i = 0; i < stretch.words; i++) {
    const uint64_t word = stretch.first + i * 8;
    if (context.WordAt(word).load(kRelaxed) != PackPiece(stretch.segment, stretch.local_depth)) {
      return Status::Corrupt("directory words of one segment differ", word);
    }
  }
  return Code::kOk;
}

/** Two siblings become one segment, in a piece of its own. kAbsent: they cannot. */
Status MergePair(const Context& context, uint32_t shard_index, const Stretch& left, const Stretch& right) {
  ShardControl& shard = context.shard(shard_index);
  FAULTLESS_TRY(CheckWords(context, left));
  FAULTLESS_TRY(CheckWords(context, right));
  uint64_t piece;
  FAULTLESS_TRY(EnsurePieces(context, shard_index, 1, &piece));
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  ZeroShared(context.base + piece, kPieceBytes);
  if (!CopyEntries(context, left.segment, piece) || !CopyEntries(context, right.segment, piece)) return Code::kAbsent;
  transaction.MoveStructure();
  transaction.Fill(context.WordAt(left.first), PackPiece(piece, left.local_depth - 1), left.words + right.words);
  FAULTLESS_TRY(FreePiece(context, shard_index, &transaction, left.segment));
  FAULTLESS_TRY(FreePiece(context, shard_index, &transaction, right.segment));
  transaction.Set(shard.spare_pieces[0], 0);
  transaction.Add(shard.entry_places, -static_cast<int64_t>(kEntriesPerSegment));
  return transaction.Commit();
}

/** The segment as it is goes to a fuller unit, where there is one with a place. */
Status MoveSegment(const Context& context, uint32_t shard_index, const Stretch& stretch) {
  ShardControl& shard = context.shard(shard_index);
  FAULTLESS_TRY(CheckWords(context, stretch));
  uint64_t piece;
  const Status better = EnsureBetterPiece(context, shard_index, stretch.segment, &piece);
  if (better.code() == Code::kAbsent) return Code::kOk;
  FAULTLESS_TRY(better);
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  for (uint64_t at = 0; at < kPieceBytes; at += 8) {
    const uint64_t word = context.WordAt(stretch.segment + at).load(kRelaxed);
    context.WordAt(piece + at).store(word, std::memory_order_release);
  }
  transaction.MoveStructure();
  transaction.Fill(context.WordAt(stretch.first), PackPiece(piece, stretch.local_depth), stretch.words);
  FAULTLESS_TRY(FreePiece(context, shard_index, &transaction, stretch.segment));
  transaction.Set(shard.spare_pieces[0], 0);
  return transaction.Commit();
}

/**
 * A directory that has a run of its own becomes as small as its deepest segment allows, but for one level, so that the
 * next split does not double it again. Looks from the stretch at `from` on: most often the next one is too deep.
 */
Status ShrinkDirectory(const Context& context, uint32_t shard_index, uint64_t from) {
  ShardControl& shard = context.shard(shard_index);
  Stretch stretch;
  uint32_t deepest = format::kPieceDirectoryDepth - 1;
  for (uint64_t looked = 0; looked < kPrefixEnd; looked += stretch.end - stretch.begin) {
    FAULTLESS_TRY(FindStretch(context, shard_index, (from + looked) % kPrefixEnd, &stretch));
    deepest = std::max(deepest, stretch.local_depth);
    if (deepest + 1 >= stretch.route.depth) return Code::kOk;
  }
  const SegmentRoute& before = stretch.route;
  const uint32_t depth = deepest + 1;
  uint64_t position;
  FAULTLESS_TRY(TakeDirectory(context, shard_index, depth, &position));
  Transaction transaction(context, &shard.intent, &shard, shard_index);
  const uint64_t step = uint64_t{1} << (before.depth - depth);
  for (uint64_t i = 0; i < uint64_t{1} << before.depth; i++) {
    const uint64_t word = context.WordAt(before.directory + i * 8).load(kRelaxed);
    if (i % step == 0) {
      context.WordAt(position + i / step * 8).store(word, std::memory_order_release);
    } else if (word != context.WordAt(before.directory + (i - i % step) * 8).load(kRelaxed)) {
      return Status::Corrupt("directory words of one segment differ", before.directory + i * 8);
    }
  }
  return SwitchDirectory(context, shard_index, before, position, depth, &transaction);
}

/** What a step does about segments that are not in memory. */
enum class Cold : uint8_t {
  kRead,  // waits for them, and lets those wait who want the lock
  kAsk,   // asks the kernel for them and leaves it at that: kWouldBlock
};

bool AreAtHand(const Context& context, uint64_t a, uint64_t b) {
  Storage& storage = *context.storage;
  if (!storage.residency_known()) return true;
  if (storage.IsResident(a, kPieceBytes) && storage.IsResident(b, kPieceBytes)) return true;
  storage.WillNeed(a, kPieceBytes);
  storage.WillNeed(b, kPieceBytes);
  return false;
}

/**
 * Looks at the segment of *prefix and its sibling. What has been merged is looked at again, with the sibling of then;
 * else *prefix moves on.
 */
Status LookAt(const Context& context, uint32_t shard_index, Cold cold, uint64_t* prefix) {
  const ShardControl& shard = context.shard(shard_index);
  if (shard.directory.load(kRelaxed) == 0) {
    *prefix = kPrefixEnd;
    return Code::kOk;
  }
  Stretch here;
  const Status found = FindStretch(context, shard_index, *prefix, &here);
  if (!found.ok()) {
    const uint32_t depth = std::min(here.route.depth, format::kMaxDirectoryDepth);
    *prefix = (*prefix | ((uint64_t{1} << (kDirectoryBits - depth)) - 1)) + 1;
    return found;
  }
  *prefix = here.end;
  if (here.local_depth > 0) {
    Stretch sibling;
    FAULTLESS_TRY(FindStretch(context, shard_index, here.begin ^ (here.end - here.begin), &sibling));
    if (cold == Cold::kAsk && !AreAtHand(context, here.segment, sibling.segment)) return Code::kWouldBlock;
    const Stretch& left = here.begin < sibling.begin ? here : sibling;
    const Stretch& right = here.begin < sibling.begin ? sibling : here;
    if (sibling.local_depth == here.local_depth && sibling.segment != here.segment &&
        AreSparse(context, left.segment, right.segment)) {
      const Status merged = MergePair(context, shard_index, left, right);
      if (merged.ok()) {
        *prefix = left.begin;
        return left.local_depth + 1 < here.route.depth ? Status() : ShrinkDirectory(context, shard_index, left.begin);
      }
      if (merged.code() != Code::kAbsent) return merged;
    }
  }
  FAULTLESS_TRY(MoveSegment(context, shard_index, here));
  return *prefix < kPrefixEnd ? Status() : ShrinkDirectory(context, shard_index, 0);
}

Status Step(const Context& context, uint32_t shard_index, Cold cold, uint64_t* prefix) {
  const ShardControl& shard = context.shard(shard_index);
  const uint64_t before = *prefix;
  const Status status = LookAt(context, shard_index, cold, prefix);
  if (status.code() == Code::kWouldBlock || status.code() == Code::kIo) *prefix = before;
  const format::Word& empty = shard.free_units[format::kPiecesPerUnit - 1];
  for (int i = 0; i < kMostReleased && empty.load(kRelaxed) != 0; i++) {
    // What a fault left decided and not applied is not overwritten.
    if (shard.intent.count.load(kRelaxed) != 0) break;
    if (!ReleaseEmptyUnit(context, shard_index).ok()) break;  // it stays on its list: another step finds it
  }
  return status;
}

}  // namespace

void PayForMerging(const Context& context, uint32_t shard_index) {
  ShardControl& shard = context.shard(shard_index);
  const uint64_t places = shard.entry_places.load(kRelaxed);
  // A fault in what went before may have left a change decided and not applied.
  if (shard.intent.count.load(kRelaxed) != 0) return;
  // A growing index is never that empty: what splits leave behind is two fifths full on average.
  if (places <= kEntriesPerSegment || shard.keys.load(kRelaxed) >= places / 16 * 5) return;
  const uint64_t cursor = shard.merge_cursor.load(kRelaxed);
  uint64_t next = cursor + (uint64_t{1} << 32);
  if (next >> 32 >= kWritesPerLook) {
    uint64_t prefix = cursor & (kPrefixEnd - 1);
    // Once they have been asked for, they are waited for: where memory is short they would never be there.
    const Status status = Step(context, shard_index, (cursor & kAsked) == 0 ? Cold::kAsk : Cold::kRead, &prefix);
    next = (prefix & (kPrefixEnd - 1)) | (status.code() == Code::kWouldBlock ? kAsked : 0);
  }
  shard.merge_cursor.store(next, std::memory_order_release);
}

Status MergeSegments(const Context& context, uint32_t shard_index, uint64_t* prefix) {
  const ShardLock lock(context, shard_index);
  FAULTLESS_TRY(lock.status());
  return Step(context, shard_index, Cold::kRead, prefix);
}

}  // namespace faultless::store
