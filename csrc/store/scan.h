// Purpose: iteration over a whole store in bounded memory.
// Thread safety: a cursor belongs to one thread at a time; any number of cursors at once. May wait for the device.
// Invariants: a key that is there throughout is delivered once, one that comes or goes at most once: a segment's hash
// tags are taken at one moment, and all keys of one tag are delivered as of one moment, once.
#pragma once

#include "store/context.h"
#include "store/store.h"

namespace faultless::store {

/** Codes and meaning as Store::Scan. */
Status ScanStep(const Context& context, ScanCursor* cursor, Bytes prefix, bool want_values, uint64_t max_bytes,
                ScanSink* sink);

}  // namespace faultless::store
