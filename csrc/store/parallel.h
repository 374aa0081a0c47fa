// Purpose: many pieces of work that do not depend on each other, done by a few threads. Thread safety: any thread that
// may wait. Ownership: nothing outlives the call but threads that are about to end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/status.h"

namespace faultless::store {

/** How many threads are worth it for work on so many bytes: 1 … 4. */
uint32_t ThreadsFor(uint64_t bytes);

/**
 * May wait. Calls work(thread, piece) for each piece below `pieces`, begun in this order, on the calling thread (thread
 * 0) and on up to `threads` − 1 others, or fewer where the system gives none. `between` is called on the calling thread
 * alone, after each of its pieces. After a failure no piece is begun; of several that of the first piece is returned.
 */
Status DoPieces(size_t pieces, uint32_t threads, const std::function<Status(uint32_t thread, size_t piece)>& work,
                const std::function<void()>& between);

}  // namespace faultless::store
