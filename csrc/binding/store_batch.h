// Purpose: a batch as JavaScript hands it over: one list of entries, one after another.
//
//   offset  size
//        0     1  store::BatchEntry::Kind
//        1     1  0
//        2     2  key bytes
//        4     4  value bytes
//        8     8  milliseconds to live, a double; 0: no end
//       16        key, then value
//
// Thread safety: any thread. May wait, as a write does.
#pragma once

#include "store/store.h"

namespace faultless::binding {

/** Commits the batch. kAbsent: a check did not hold. kInvalidArgValue: the list is not well-formed. */
Status CommitBatchOf(store::Bytes list, store::Store* engine);

}  // namespace faultless::binding
