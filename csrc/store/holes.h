// Purpose: which units of the file may have no space on the filesystem: a bit for each, in the `holes` word of the
// entry of every 64th unit, on the same page as the entries themselves. Bits are set before a hole is punched, and
// cleared after the space has been reserved, so a death in between leaves what is known to need a reservation. Thread
// safety: the holder of the allocator's lock, or who owns the store alone (recovery).
#pragma once

#include "base/status.h"
#include "store/context.h"
#include "store/transaction.h"

namespace faultless::store {

/** How many of the run's units may be holes, as the transaction leaves them. */
uint64_t CountHoles(const Context& context, const Transaction& transaction, uint64_t unit, uint64_t units);
/** The same as it is now. */
uint64_t CountHoles(const Context& context, uint64_t unit, uint64_t units);
/** Changes the bits of a run (2^class aligned units) in the transaction. */
void MarkHoles(const Context& context, Transaction* transaction, uint64_t unit, uint64_t units, bool holes);

/** For recovery, which owns the store alone: changes the bits of [begin, end). */
void SetHoles(const Context& context, uint64_t begin, uint64_t end, bool holes);

/** May wait. Reserves the space of all units of the published part that are no holes: that of a copy may be missing. */
Status ReserveAll(const Context& context);
/** May wait. Punches all units that are marked as holes. For recovery; what the system refuses stays reserved. */
void PunchHoles(const Context& context);

}  // namespace faultless::store
