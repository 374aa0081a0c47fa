// Purpose: what a write of one key (writer.cc) and a batch (batch.cc) have in common.
// Thread safety: as said. Under the shard's lock: FindKey (else it is a hint), RunsOf, PayForCleaning. Under none: the
// rest.
#pragma once

#include <vector>

#include "base/status.h"
#include "format/record.h"
#include "store/allocator.h"
#include "store/context.h"
#include "store/index.h"
#include "store/record_queue.h"
#include "store/store.h"

namespace faultless::store {

/** Whether such a write can be at all. */
Status CheckWrite(const Context& context, Bytes key, uint64_t value_bytes);

/** Pages that a fault has replaced would take stores that get lost: no write before they are back. */
Status RequireRealPages(const Context& context);

/** The entry of this key, or kAbsent. */
Status FindKey(const Context& context, uint32_t shard_index, uint64_t hash, Bytes key, IndexHit* hit,
               RecordFacts* facts);

/** The value runs of the record at `position`, which the caller is about to replace, and whether a flush promised them.
 * Copies: the scratch is reused. */
Status RunsOf(const Context& context, uint32_t shard_index, uint64_t position, std::vector<format::RunReference>* runs,
              bool* promised);

void SetExpiry(uint64_t expires_at_ms, format::RecordView* record);

/** The cleaning and merging that every write pays for. A failure of it is no failure of the write. */
void PayForCleaning(const Context& context, uint32_t shard_index);

/**
 * What has expired in shards to which nobody writes: each write pays for one other shard, too, unless somebody is at
 * work there.
 */
void PayElsewhere(Context& context, uint32_t written_shard);

/**
 * One bounded step towards more room, for so many bytes about, in a full store, or on a full disk. False in *progress:
 * there is nothing left to give back. kWouldBlock, for deletes alone: somebody holds what there may be. Sets are
 * refused at once then, as the store is full.
 */
Status MakeRoom(Context& context, uint32_t preferred_shard, Purpose purpose, uint64_t bytes, bool* progress);

}  // namespace faultless::store
