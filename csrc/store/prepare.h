// Purpose: what many keys need is asked for before it is needed, level by level for a group of them: their misses, in
// the processor's caches and on the device, overlap instead of following each other. Hints only: nothing is believed,
// and nothing depends on it. Source: group prefetching, Chen, Ailamaki, Gibbons and Mowry, "Improving Hash Join
// Performance through Prefetching" (2004). Thread safety: any thread. May wait with `advise`, and for a page of the
// index where the kernel does not tell what is in memory.
#pragma once

#include <span>

#include "store/context.h"
#include "store/store.h"

namespace faultless::store {

/** What chooses a key's shard, version slot and place in the index. */
uint64_t HashOf(const Context& context, Bytes key);

/** Keys that are prepared together: what they need fits into the first-level cache. */
constexpr size_t kPreparedTogether = 32;

/**
 * hashes[i] becomes the hash of keys[i]. What is in memory of version, index and record is brought near the processor.
 * With `advise` the kernel is asked for what is not: for the pages of the index, all at once, then, when those have
 * come, for the first page of each record.
 */
void PrepareKeys(const Context& context, std::span<const Bytes> keys, std::span<uint64_t> hashes, bool advise);

}  // namespace faultless::store
