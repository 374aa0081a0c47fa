// Purpose: set, delete, touch and clear, and what depends on what the key holds.
// Thread safety: any thread; take the shard's lock themselves. May wait for the device and, 1 ms at most, for a lock.
#pragma once

#include "base/status.h"
#include "store/context.h"
#include "store/store.h"
#include "store/write_rule.h"

namespace faultless::store {

/** Codes as Store::Set, and those of the rule. Without a rule it happens whatever the key holds. The value may be made
 * by the rule's Decide; its size is known before. */
Status SetRecord(Context& context, Bytes key, Bytes value, const WriteOptions& options, WriteRule* rule = nullptr);
/** Codes as Store::Delete, and those of the rule. */
Status DeleteRecord(Context& context, Bytes key, bool* existed, WriteRule* rule = nullptr);
/** Codes as Store::Touch. */
Status TouchRecord(Context& context, Bytes key, const WriteOptions& options, bool* existed);
/** The number of a clear, for ClearShard of each shard. */
uint64_t BeginClear(const Context& context);
/** Drops all keys of one shard. Codes as Store::Clear. */
Status ClearShard(Context& context, uint32_t shard_index, uint64_t number);

}  // namespace faultless::store
