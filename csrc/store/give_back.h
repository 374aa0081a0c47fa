// Purpose: giving free space back to the filesystem. Writers pay for it, one run at a time, where free units that have
// space exceed a bound; compaction gives back all of them. The punch itself, which may wait for the device, happens
// under no lock: the run is on a chain of this opener meanwhile, and known to have holes (allocator.h).
// Thread safety: any thread; one at a time in a process, the others leave it at that. May wait for the device.
#pragma once

#include "base/status.h"
#include "store/context.h"

namespace faultless::store {

/**
 * Punches one free run, the largest there is but of a quarter of all free units and of `most_units` at most. kAbsent:
 * no free unit has space (or there is no punching here); kWouldBlock: a lock, or another thread of ours is at it.
 */
Status PunchOneRun(Context& context, uint64_t most_units);

/** What a write pays: one run, where free units with space exceed what overwriting alone would need. */
void GiveBackFreeSpace(Context& context);

/** Puts back what a failure left on this opener's chain. */
Status FinishPunching(Context& context);

}  // namespace faultless::store
