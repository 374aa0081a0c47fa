// Purpose: set, delete and clear.
// Thread safety: any thread; take the shard's lock themselves. May wait for the device and, 1 ms at most, for a lock.
#pragma once

#include "base/status.h"
#include "store/context.h"
#include "store/store.h"

namespace faultless::store {

/** Codes as Store::Set. */
Status SetRecord(Context& context, Bytes key, Bytes value, const WriteOptions& options);
/** Codes as Store::Delete. */
Status DeleteRecord(Context& context, Bytes key, bool* existed);
/** Drops all keys of one shard. Codes as Store::Clear. */
Status ClearShard(Context& context, uint32_t shard_index);

}  // namespace faultless::store
