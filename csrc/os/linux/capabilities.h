// Purpose: which of the kernel's privileges this thread has in effect.
// Thread safety: any thread; never waits.
#pragma once

#include <cstdint>

namespace faultless::os {

enum class Capability : uint8_t {
  kOwnFiles = 3,     // CAP_FOWNER
  kLockMemory = 14,  // CAP_IPC_LOCK
};

/** False also for the root of a user namespace: such capabilities count for little outside it. */
bool HasCapability(Capability capability);

}  // namespace faultless::os
