// Purpose: batches: many sets and deletes that happen together or not at all, to readers of every process, whoever dies
// when, and after a power cut (docs/concurrency.md, "Batches"; docs/format.md, "Batches").
// Thread safety: any thread. May wait for the device and, 1 ms at most for each, for locks. Lock order: batch, shards
// ascending, allocator.
#pragma once

#include <span>

#include "base/status.h"
#include "store/context.h"
#include "store/store.h"

namespace faultless::store {

/** What a batch may have in one shard, in bytes of records (values of 64 KiB and more: what exceeds whole units). */
constexpr uint64_t kMaxBatchShardBytes = (format::kUnitBytes << format::kMaxExtentClass) - 256;

/**
 * Codes as Store::Set, and kOutOfRange: more than kMaxBatchEntries, or too much for one shard. False in *done: a check
 * did not hold, and nothing has changed.
 */
Status CommitBatch(Context& context, std::span<const BatchEntry> entries, bool* done);

}  // namespace faultless::store
