// Purpose: making what has been written durable, and letting go of the space that only an older promise held.
// Thread safety: any thread; one flush of a store at a time. May wait for the device.
#pragma once

#include "base/status.h"
#include "store/context.h"

namespace faultless::store {

/** Codes as Store::Flush; kWouldBlock: another flush is under way, in whatever process: run it again later. */
Status Flush(Context& context);
/** The flush that the engine starts itself, where the space that waits for one exceeds an eighth of what is alive. */
void FlushWhereLimboIsLarge(Context& context);

}  // namespace faultless::store
