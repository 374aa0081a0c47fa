// Purpose: what the fault handler shares with the rest of csrc/os/, and the one thing that it asks of the system below
// it. Thread safety: any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"

namespace faultless::os {

/** Whether one registered mapping holds all of the range, writable where asked. Lock-free. */
bool IsRegisteredRange(const std::byte* address, uint64_t length, bool writable);

/** PopulateRead and PopulateWrite for systems without a call for them: pages are touched under the fault handler. */
Status PopulateReadByTouch(std::byte* address, uint64_t length);
Status PopulateWriteByTouch(std::byte* address, uint64_t length);

// Per system (linux/faults.cc, portable/faults.cc). All but PrepareSubstitutes are called from the signal handler:
// system calls only. They bypass the C library's mmap where a sanitizer would intercept it.

/** Called once, before the handler is installed. */
Status PrepareSubstitutes();
/** Replaces [address, address + length) by private zeros, atomically; whole pages. */
bool MapZeros(std::byte* address, uint64_t length, bool writable);
/** Replaces one page by private bytes of 0xFF: at no moment does another thread see anything else there. */
bool MapOnesPage(std::byte* page, bool writable);
/** Maps one page of the file back. */
bool MapFilePage(std::byte* page, int fd, uint64_t file_offset, bool writable, bool shared);

}  // namespace faultless::os
