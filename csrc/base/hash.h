// Purpose: the seeded 64-bit hash of keys. Seeded per store, so that chosen keys cannot flood one shard or bucket.
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace faultless {

/** SipHash-1-3 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012) with a 128-bit seed. Part of the file
 * format. */
uint64_t HashBytes(const void* data, size_t size, const uint64_t seed[2]);

}  // namespace faultless
