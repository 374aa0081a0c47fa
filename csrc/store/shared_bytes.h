// Purpose: copying between private memory and memory that other processes may change at any moment, word by word with
// atomic accesses: a reader may get a mixture, never undefined behaviour, and finds out by validating versions
// (docs/concurrency.md). Acquire on every load orders the copy before the validation without fences, which
// ThreadSanitizer could not judge; on x86-64 and with LDAPR they cost nothing.
// Thread safety: that is what it is for. The shared side must be 8-aligned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/fail_point.h"

namespace faultless::store {

inline void CopyFromShared(void* target, const std::byte* shared, size_t size) {
  auto* at = static_cast<uint8_t*>(target);
  const auto* words = reinterpret_cast<const uint64_t*>(shared);
  size_t whole = size / 8;
  for (size_t i = 0; i < whole; i++) {
    const uint64_t word = __atomic_load_n(words + i, __ATOMIC_ACQUIRE);
    std::memcpy(at + i * 8, &word, 8);
  }
  if (size % 8 != 0) {
    const uint64_t word = __atomic_load_n(words + whole, __ATOMIC_ACQUIRE);
    std::memcpy(at + whole * 8, &word, size % 8);
  }
}

/** A size that is no multiple of 8 is filled up with zeros. */
inline void CopyToShared(std::byte* shared, const void* source, size_t size) {
  const auto* at = static_cast<const uint8_t*>(source);
  auto* words = reinterpret_cast<uint64_t*>(shared);
  size_t whole = size / 8;
  for (size_t i = 0; i < whole; i++) {
    uint64_t word;
    std::memcpy(&word, at + i * 8, 8);
    FAULTLESS_FAIL_POINT();
    __atomic_store_n(words + i, word, __ATOMIC_RELEASE);
  }
  if (size % 8 != 0) {
    uint64_t word = 0;
    std::memcpy(&word, at + whole * 8, size % 8);
    FAULTLESS_FAIL_POINT();
    __atomic_store_n(words + whole, word, __ATOMIC_RELEASE);
  }
}

inline void ZeroShared(std::byte* shared, size_t size) {
  auto* words = reinterpret_cast<uint64_t*>(shared);
  for (size_t i = 0; i < size / 8; i++) {
    FAULTLESS_FAIL_POINT();
    __atomic_store_n(words + i, 0, __ATOMIC_RELEASE);
  }
}

}  // namespace faultless::store
