// Purpose: CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of records and tables; the SSE4.2 instruction where
// the processor has it (chosen at run time; three stretches at once where there is enough), tables elsewhere: both give
// the same value. Part of the file format.
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace faultless {

/** Continues `crc` (0 to begin) over `size` bytes: Crc32c(Crc32c(0, a), b) is the checksum of a then b. */
uint32_t Crc32c(uint32_t crc, const void* data, size_t size);

namespace internal {
/** The implementation without special instructions, for the test that compares the two. */
uint32_t Crc32cTable(uint32_t crc, const void* data, size_t size);
}  // namespace internal

}  // namespace faultless
