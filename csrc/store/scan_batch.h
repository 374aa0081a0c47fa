// Purpose: what a scan is about to read: index entries of many segments, in the order in which their records lie in the
// file, so that memory and devices are read forwards and each page once. Entries are hints that are validated when they
// are read: the place and the version that its slot had tell whether an entry still leads to its key's record; where
// that has moved, ReadTag (reader.h) looks again.
// Thread safety: a cursor belongs to one thread at a time. May wait for the device.
// Invariants: entries of one segment are of one moment, and no two of a cursor have the same tag (48 bits).
#pragma once

#include <vector>

#include "base/status.h"
#include "format/record.h"
#include "store/context.h"
#include "store/store.h"

namespace faultless::store {

/** Of an entry whose slot's version is not known; slots at rest are even. */
constexpr uint32_t kVersionUnknown = 1;

/**
 * Adds the entries of a segment (its words, copied; as of one moment, if the versions of their slots are of that moment
 * too: `versions_count`) whose directory bits are in [prefix, next_prefix). Entries that share a tag become one, with
 * an unknown version. False: an entry does not belong into a segment that ends at next_prefix.
 */
bool CollectEntries(const Context& context, uint32_t shard_index, const uint64_t* words, uint64_t prefix,
                    uint64_t next_prefix, bool versions_count, std::vector<ScanEntry>* entries);

/** Fills an empty cursor with further entries of one shard, twice as many segments as the time before. */
Status TakeBatch(const Context& context, ScanCursor* cursor);

/** Has the kernel read what the cursor is about to need, a few steps of the device ahead. */
void AdviseBatch(const Context& context, ScanCursor* cursor);

/**
 * Reads the entry's record where it was when the entry was taken. True: it still is its key's, and *record is what the
 * key has now; the spans are valid until the next read of a record on this thread. False: whatever is the matter,
 * ReadTag tells.
 */
bool ReadUnmoved(const Context& context, uint32_t shard_index, const ScanEntry& entry, format::RecordView* record);

}  // namespace faultless::store
