// Purpose: making a store out of what a power cut, a copy or damage left: superblocks, table entries and records are
// believed where their checks match; control region, free lists and index are built anew. Thread safety: the opener
// that holds the gate and found no other user. Invariants: docs/format.md, "Recovery": everything that the last
// completed flush covered is found, nothing that was deleted before it is.
#pragma once

#include <functional>

#include "base/status.h"
#include "store/context.h"

namespace faultless::store {

/** Writes the control region of an empty store with `published_units`; `control` is kControlOffset of it. */
void InitializeControl(std::byte* control, uint32_t shard_count, uint64_t published_units, uint64_t first_incarnation);

/** May wait. Rebuilds. kIo, kCorrupt, kNoSpace. The caller syncs and marks the store ready afterwards. */
Status Recover(Context& context, const std::function<void(uint64_t done, uint64_t total)>& on_progress);

}  // namespace faultless::store
