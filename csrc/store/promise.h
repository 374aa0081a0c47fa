// Purpose: what the last completed flush promised of a shard's queue, kept where the next recovery may find it: in two
// places of the shard's control words, written in turn, and in every mark. A recovery that finds less than what was
// promised has met damage, not a power cut (docs/format.md, "Damage or power cut").
// Thread safety: StorePromise by the holder of the flush lock, or a recovery; ReadPromise by anybody.
// Invariants: a promise is stored only after the sync that keeps it; whatever is read was true once, and what is true
// of a place once stays true of it.
#pragma once

#include "store/context.h"

namespace faultless::store {

/** A place between two records of a queue. */
struct QueuePlace {
  uint64_t tail_sequence = 0;  // of then
  uint64_t sequence = 0;
  uint64_t position = 0;  // 0: no place

  bool IsBefore(const QueuePlace& other) const {
    return sequence != other.sequence ? sequence < other.sequence : position < other.position;
  }
};

/** The youngest whole promise; position 0: there is none. */
QueuePlace ReadPromise(const Context& context, uint32_t shard_index);
/** Leaves the youngest whole one as it is. */
void StorePromise(const Context& context, uint32_t shard_index, const QueuePlace& place);
/** Where a shard's queue ends now; position 0: it has none. For the holder of the shard's lock. */
QueuePlace EndOfQueue(const Context& context, uint32_t shard_index);

}  // namespace faultless::store
