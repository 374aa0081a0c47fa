// Purpose: the space of values that have expired, without anyone reading them. Where something may have expired, each
// write looks at a stretch of its shard's queue, from tail to head, and takes what has expired off the index; the dead
// records are cleaned like any others (cleaner.h). A look that has come to the head knows when the next value expires,
// and until then nothing is looked at: a store in which nothing expires pays for one load per write.
// Thread safety: the holder of the shard's lock. Invariants: what stands in ShardControl is a lower bound and a hint.
#pragma once

#include "base/status.h"
#include "store/context.h"

namespace faultless::store {

struct SweepBudget {
  uint32_t scanned_records;
  uint64_t scanned_bytes;
  uint32_t dropped_records;
};
/** What one write pays. */
constexpr SweepBudget kSweepPerWrite{64, 64 * 1024, 16};

/** Whether something may have expired, or a look is under way. */
bool NeedsSweep(const Context& context, uint32_t shard_index);

/**
 * One step of a look. `patient`: what is not in memory is waited for; else the kernel is asked for it first, and
 * nothing more done. *progress: something has been dropped, or the look is not at its end.
 */
Status Sweep(const Context& context, uint32_t shard_index, SweepBudget budget, bool patient, bool* progress);

}  // namespace faultless::store
