// Purpose: the index of a shard: extendible hashing (Fagin et al. 1979) over segments of 256 cache lines. An entry
// stands in its home line or, where that is full, in one of the next 7 (31 after a split); each line counts the entries
// that went past it, so that a search ends early and a removal needs no tombstone (the overflow count of Folly's F14).
// Thread safety: Probe by anybody who validates versions afterwards or holds the shard's lock; everything else by the
// holder. Invariants: an entry never moves but in a split or a merge (index_merge.h). The hash bits in an entry (tag,
// fingerprint) are all that these need: they read no record.
#pragma once

#include "base/status.h"
#include "store/batch_change.h"
#include "store/context.h"
#include "store/transaction.h"

namespace faultless::store {

/** An entry place of the index. */
struct IndexHit {
  uint64_t line = 0;      // file offset of the line
  uint64_t segment = 0;   // file offset of its segment
  uint32_t entry = 0;     // 0 … 4
  uint32_t steps = 0;     // lines from the home line
  uint64_t position = 0;  // of the record; 0: the place is empty
};

inline uint32_t TagInLine(const format::IndexLine& line, uint32_t entry, std::memory_order order) {
  const uint32_t half = entry + 1;  // the overflow count is half 0
  return static_cast<uint32_t>(line.words[half / 2].load(order) >> (half % 2 * 32));
}
inline const format::Word& PlaceInLine(const format::IndexLine& line, uint32_t entry) { return line.words[3 + entry]; }

/** The directory word that leads to a tag's segment, as found; nothing validated. */
struct SegmentRoute {
  uint64_t directory = 0;  // file offset of the directory; 0: the shard is empty
  uint32_t depth = 0;
  uint64_t word = 0;  // file offset of the directory word
};

/** Decodes a shard's directory word. False where it cannot be (then it must be validated before it is called corrupt).
 */
bool RouteOf(const Context& context, uint64_t directory_word, uint32_t tag, SegmentRoute* route);
/** Decodes a word of the directory. */
bool SegmentOf(const Context& context, uint64_t word, uint32_t depth, uint64_t* segment, uint32_t* local_depth);
/** Whether the directory is one of the shard's own. */
bool IsOwnDirectory(const Context& context, uint32_t shard_index, const SegmentRoute& route);

/** A `need` of Probe that lets any bytes be touched, which may wait. */
inline Status NeverStop(uint64_t /*offset*/, uint64_t /*size*/) { return Code::kOk; }

/**
 * Walks the entries whose tag and fingerprint match. `need(offset, size)` is asked before bytes are touched and may
 * stop the walk with a Status; `match(hit)` answers kOk to stop there, kAbsent to go on, anything else to fail. kAbsent
 * at the end.
 */
template <typename Need, typename Match>
Status Probe(const Memory& memory, const format::ShardControl& shard, uint32_t tag, uint64_t fingerprint,
             const Need& need, const Match& match) {
  const Context& context = memory.context;
  const uint64_t directory_word = memory.Load(context.OffsetOf(&shard.directory));
  if (directory_word == 0) return Code::kAbsent;
  SegmentRoute route;
  if (!RouteOf(context, directory_word, tag, &route)) {
    return Status::Corrupt("a directory word points nowhere", context.OffsetOf(&shard.directory));
  }
  FAULTLESS_TRY(need(route.word, sizeof(uint64_t)));
  uint64_t segment;
  uint32_t local_depth;
  if (!SegmentOf(context, memory.Load(route.word), route.depth, &segment, &local_depth)) {
    return Status::Corrupt("a directory entry points nowhere", route.word);
  }
  const uint32_t home = format::LineOf(tag);
  for (uint32_t step = 0; step < format::kMaxProbeLines; step++) {
    const uint64_t offset = segment + (home + step) % format::kLinesPerSegment * sizeof(format::IndexLine);
    FAULTLESS_TRY(need(offset, sizeof(format::IndexLine)));
    const uint64_t halves[3] = {memory.Load(offset), memory.Load(offset + 8), memory.Load(offset + 16)};
    for (uint32_t entry = 0; entry < format::kEntriesPerLine; entry++) {
      const uint32_t half = entry + 1;  // the overflow count is half 0
      if (static_cast<uint32_t>(halves[half / 2] >> (half % 2 * 32)) != tag) continue;
      const uint64_t place = memory.Load(offset + (3 + entry) * 8);
      if (place == 0 || format::FingerprintOfPlace(place) != fingerprint) continue;
      const Status status = match(IndexHit{offset, segment, entry, step, format::PositionOf(place)});
      if (status.code() != Code::kAbsent) return status;
    }
    if (static_cast<uint32_t>(halves[0]) == 0) break;
  }
  return Code::kAbsent;
}

// ── For the holder of the shard's lock.

/** An empty place for the tag, or kAbsent where its segment has none within reach: split it. The shard must have a
 * directory. `planned`: changes that are not in the index yet, and count. */
Status FindEmptyPlace(const Context& context, uint32_t shard_index, uint32_t tag, IndexHit* hit,
                      const BatchChange* planned = nullptr);

// Change: a Transaction, a DirectChange or a BatchChange.
template <typename Change>
void InsertEntry(const Context& context, Change* change, const IndexHit& hit, uint32_t tag, uint64_t fingerprint,
                 uint64_t position);
template <typename Change>
void SwitchEntry(const Context& context, Change* change, const IndexHit& hit, uint64_t fingerprint, uint64_t position);
template <typename Change>
void RemoveEntry(const Context& context, Change* change, const IndexHit& hit);
/** A hint that a tag's entry is looked for soon. */
void PrefetchEntry(const Context& context, const format::ShardControl& shard, uint32_t tag);

/** Gives an empty shard its directory and first segment. May take a run: kStoreFull, kNoSpace, … */
Status CreateIndex(const Context& context, uint32_t shard_index);
/** Splits the tag's segment, doubling the directory before where it must. Touches one segment, whatever the store's
 * size. */
Status SplitSegment(const Context& context, uint32_t shard_index, uint32_t tag);
/** Builds an entry into a segment that nobody can see yet. False: no place within a search. */
bool PlaceUnseen(const Context& context, uint64_t segment, uint32_t tag, uint64_t place);
/** A place for a directory of that depth: a spare piece, or a run that is the shard's spare one. May take a run. */
Status TakeDirectory(const Context& context, uint32_t shard_index, uint32_t depth, uint64_t* position);
/** The transaction publishes the directory that was built there, and frees the one of before. */
Status SwitchDirectory(const Context& context, uint32_t shard_index, const SegmentRoute& before, uint64_t position,
                       uint32_t depth, Transaction* transaction);
/** A directory left behind or taken and not used: nothing refers to it. */
Status FreeSpareDirectory(const Context& context, uint32_t shard_index);
/** Frees one unit of what a clear left behind. */
Status ReleaseDroppedIndex(const Context& context, uint32_t shard_index);

}  // namespace faultless::store
