// Purpose: the space of a shard's index: units of 64 KiB that are cut into four pieces, each a segment or a small
// directory. A unit's table entry says which of its pieces are free; units that have some are on a list for each
// number of them, so that a piece is taken from the fullest unit, and one that is all free is found at once and given
// back. Thread safety: the holder of the shard's lock. Invariants: a unit is on the shard's chain and says of each of
// its pieces whether it is free, or it is the spare unit; every link is checked before it is followed or overwritten.
#pragma once

#include "base/status.h"
#include "store/context.h"
#include "store/transaction.h"

namespace faultless::store {

/** A word of a directory, or the shard's directory word. */
constexpr uint64_t PackPiece(uint64_t position, uint32_t depth) { return position / format::kPieceBytes << 8 | depth; }

bool IsPiece(const Context& context, uint64_t position);
/** May wait. Brings pages of a run that was just taken into memory, writable; what they hold is of no use to anybody.
 */
Status PopulateFresh(const Context& context, uint64_t position, uint64_t bytes);
/** Of the shard's own index: what a damaged word names is not overwritten where it is used otherwise. */
bool IsOwnPiece(const Context& context, uint32_t shard_index, uint64_t position);

/**
 * Makes sure that `count` of the shard's spare pieces are there, and says which. They are not free, so they may be
 * written to; whoever puts one into the index sets the spare word to 0 in the same transaction. May take a run:
 * kStoreFull, kNoSpace, …
 */
Status EnsurePieces(const Context& context, uint32_t shard_index, uint32_t count, uint64_t* pieces);

/**
 * The same for one piece that is to take the place of `position`, where that makes its unit emptier and another one, as
 * full or fuller, fuller still: moving ends. Takes no run. kAbsent: there is no such place.
 */
Status EnsureBetterPiece(const Context& context, uint32_t shard_index, uint64_t position, uint64_t* piece);

/** Frees a piece that the transaction takes out of the index. Once is as good as twice. */
Status FreePiece(const Context& context, uint32_t shard_index, Transaction* transaction, uint64_t position);

/** Gives back one unit that is all free, where there is one. */
Status ReleaseEmptyUnit(const Context& context, uint32_t shard_index);

/** For who drops the whole index: all its units become the chain that starts at dropped_index_units. */
void DropUnits(const Context& context, uint32_t shard_index, Transaction* transaction);

}  // namespace faultless::store
