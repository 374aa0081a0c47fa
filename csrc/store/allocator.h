// Purpose: runs of 2^class units: a buddy allocator whose state is words in the file, changed only by transactions, and
// the growth of the file. Release follows one rule: what holds nothing that the last completed flush promised is free
// at once; the rest waits in limbo for the next flush. Source: buddy system, Knowlton 1965, as in Knuth, The Art of
// Computer Programming, volume 1, section 2.5. Thread safety: every function takes the allocator's lock itself; callers
// may hold one shard's lock, which then covers the shard words that are changed along. May wait for the device
// (growth).
#pragma once

#include "base/status.h"
#include "format/superblock.h"
#include "store/context.h"

namespace faultless::store {

enum class Purpose : uint8_t {
  kUser,     // leaves a reserve of free units in the file, so that a store can always be emptied, on a full device too
  kReserve,  // deletes and cleaning may use it up, but for what
  kFlush,  // a flush needs for its marks: it is what gives back the space that waits for one. For cleaning, too, where
           // nothing else is left to give any back (writer.cc)
};

/** No room: at max_bytes, or on the device. What waits for cleaning or a flush may give some back. */
inline bool IsOutOfSpace(const Status& status) {
  return status.code() == Code::kStoreFull || status.code() == Code::kNoSpace;
}

/** What a new run is to be, and the word that remembers it until something refers to it. */
struct RunRequest {
  format::RunKind kind;
  uint32_t shard;
  uint64_t sequence;           // kQueue
  const format::Word* anchor;  // set to the unit in the same transaction
  const format::Word* chain;  // not nullptr: the entry's `next` becomes this word's value (anchor may be the same word)
};

/**
 * Takes a run of `size_class`, growing the file where none is free. kStoreFull at max_bytes, kNoSpace from the
 * filesystem, kWouldBlock, kIo, kCorrupt: nothing has changed.
 */
Status TakeRun(const Context& context, uint32_t size_class, const RunRequest& request, Purpose purpose, uint64_t* unit);

/**
 * Takes a free run that has space, of the largest class there is but of `largest_class` at most, off its list onto the
 * chain, as a value run that nothing refers to. Its units count as holes from then on: so they do when they come back
 * by FreeFirstOfChain, whether they have been punched or the process died before. kAbsent: there is none.
 */
Status TakeRunToPunch(const Context& context, uint32_t largest_class, const format::Word* chain, uint64_t* unit,
                      uint32_t* size_class);

constexpr uint64_t kAnyIncarnation = 0;
constexpr uint32_t kAnyShard = ~0u;

/** What a run must be to be released: a damaged link or anchor releases nothing that is used otherwise. */
struct RunUse {
  format::RunKind kind;
  uint32_t shard = kAnyShard;
  uint64_t incarnation = kAnyIncarnation;
};

/**
 * Frees the run at once; `anchor` (may be nullptr) becomes 0 in the same transaction. Where the unit is no run of that
 * use any more, or waits in limbo already, only the anchor changes: releasing twice is releasing once.
 */
Status FreeRun(const Context& context, uint64_t unit, const RunUse& use, const format::Word* anchor);
/** Frees the first run of a chain linked by TableEntry::next; the head moves on to the next. kCorrupt: it is of another
 * use. */
Status FreeFirstOfChain(const Context& context, const format::Word* head, const RunUse& use);
/** Puts the run into limbo until the next flush; likewise. */
Status RetireRun(const Context& context, uint64_t unit, const RunUse& use, const format::Word* anchor);

/** Flush begins: what is in limbo now may go when it has completed. Nothing moves while an earlier flush's runs are
 * still there. */
Status BeginClosingLimbo(const Context& context);
/** Flush has completed: frees everything that closed, a few runs at a time. */
Status FreeClosedLimbo(const Context& context);

/** Units that could still be had without growing past max_bytes. */
uint64_t AvailableUnits(const Context& context);

/** Free units that have space. */
uint64_t FreeUnitsWithSpace(const Context& context);
/**
 * Of those, how many are left to what comes first where the device is full: by user writes to deletes and cleaning (two
 * units for each shard, less in a small store), and by these, a quarter of it, to the marks of a flush.
 */
uint64_t KeptUnits(const Context& context, Purpose purpose);

/** Checked view of a run's entry: false where the unit is none of `kind`. */
bool ReadRun(const Context& context, uint64_t unit, format::RunKind kind, format::EntryView* view);

/** For creation and recovery, which own the store alone: puts [begin, end) on the free lists, table units left out. */
Status AddFreeUnits(const Context& context, uint64_t begin, uint64_t end);

}  // namespace faultless::store
