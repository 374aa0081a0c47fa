// Purpose: all opens of one file in one process share one engine: one mapping, one opener slot. (Byte locks belong to a
// file description: two of one process could not tell each other from strangers.) Thread safety: any thread. Opening
// one file does not hold up another. Ownership: never destroyed: pool threads may use it while the process exits.
#pragma once

#include <memory>

#include "store/engine.h"

namespace faultless::store {

/** May wait. Opens, creating where the options say so, or joins what this process has open already. */
Status AcquireEngine(const OpenOptions& options, std::shared_ptr<Engine>* engine);
/** May wait. The last user of the file in this process closes it; `engine` is empty afterwards. */
Status ReleaseEngine(std::shared_ptr<Engine>* engine);

/** Never waits for a device. Lets go without closing, like a kill; `engine` is empty afterwards. */
void AbandonEngine(std::shared_ptr<Engine>* engine);

}  // namespace faultless::store
