// Purpose: the way back: an index that has few entries left becomes small again. Two sibling segments whose entries
// fill half of one at most become one (the inverse of a split, as in Fagin et al. 1979), and a segment that keeps a
// nearly empty unit moves into a fuller one, so that units come back. Thread safety: MergeSegments any thread; the rest
// the holder of the shard's lock. Invariants: a step touches two segments at most and reads no record. What fails
// changes nothing.
#pragma once

#include "base/status.h"
#include "store/context.h"

namespace faultless::store {

/** What every write pays: where the shard's segments are far from full, a look at one pair of them each 16 writes. */
void PayForMerging(const Context& context, uint32_t shard_index);

/**
 * One step of making a shard's index as small as it can be made: begin with *prefix = 0, the shard is done when it has
 * come to 1 << kDirectoryBits. Takes the shard's lock. After kWouldBlock or kIo *prefix has not moved; after other
 * failures (damage, no place for a piece) it has moved on behind what could not be done.
 */
Status MergeSegments(const Context& context, uint32_t shard_index, uint64_t* prefix);

}  // namespace faultless::store
