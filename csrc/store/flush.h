// Purpose: making what has been written durable, and letting go of the space that only an older promise held.
// Thread safety: any thread; one flush of a store at a time. May wait for the device.
#pragma once

#include "base/status.h"
#include "store/context.h"

namespace faultless::store {

/**
 * Codes as Store::Flush. Waits for the flush under way in this process, and for one of another process for a minute;
 * then kWouldBlock.
 */
Status Flush(Context& context);
/** The same, unless another flush is under way: kWouldBlock. */
Status TryFlush(Context& context);
/** The flush that the engine starts itself, where the space that waits for one exceeds an eighth of what is alive. */
void FlushWhereLimboIsLarge(Context& context);
/** The same where cleaning of the shard has met a batch that no flush covers yet, and there is much behind that. */
void FlushWhereHeldUp(Context& context, uint32_t shard_index);

}  // namespace faultless::store
