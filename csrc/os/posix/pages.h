// Purpose: widens a byte range to whole pages, which is what the memory calls of an operating system take.
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "os/os.h"

namespace faultless::os {

struct PageRange {
  std::byte* address;  // a multiple of the page size
  uint64_t length;     // bytes; a multiple of the page size
};

/** The pages that hold [address, address + length); none where length is 0. */
inline PageRange PagesAround(std::byte* address, uint64_t length) {
  const uint64_t page_size = PageSize();
  const uint64_t skew = reinterpret_cast<uintptr_t>(address) & (page_size - 1);
  if (length == 0) return {address - skew, 0};
  return {address - skew, (skew + length + page_size - 1) & ~(page_size - 1)};
}

}  // namespace faultless::os
