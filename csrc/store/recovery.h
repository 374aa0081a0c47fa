// Purpose: making a store out of what a power cut, a copy or damage left: superblocks, table entries and records are
// believed where their checks match; control region, free lists and index are built anew. Thread safety: the opener
// that holds the gate and found no other user; or anybody, over private memory (private_storage.h).
// Invariants: docs/format.md, "Recovery": everything that the last completed flush covered is found, or it is
// kCorrupt; nothing that was deleted before it is found. Salvage promises less, and is for private memory alone.
#pragma once

#include <functional>

#include "base/status.h"
#include "store/context.h"

namespace faultless::store {

/** Which shards are made of every record that is whole, instead of a queue without gaps. */
enum class Salvage : uint8_t {
  kNone,           // damage in what a flush covered is kCorrupt, and nothing has been changed
  kDamagedShards,  // those in which there is such damage
  kAllShards,      // also where nothing says so; pages that cannot be read count as damaged
};

/** Writes the control region of an empty store with `published_units`; `control` is kControlOffset of it. */
void InitializeControl(std::byte* control, uint32_t shard_count, uint64_t published_units, uint64_t first_incarnation);

/** May wait. Rebuilds. kIo, kCorrupt, kNoSpace. The caller syncs and marks the store ready afterwards. */
Status Recover(Context& context, Salvage salvage,
               const std::function<void(uint64_t done, uint64_t total)>& on_progress);

}  // namespace faultless::store
