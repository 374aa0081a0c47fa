// Process, with POSIX alone.
#include <unistd.h>
#if __has_include(<sys/random.h>)
#include <sys/random.h>  // where getentropy was before POSIX.1-2024 put it into unistd.h
#endif

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "os/os.h"

namespace faultless::os {

bool RamStaysResident() { return false; }

BootId CurrentBootId() { return {{0, 0}}; }

Status RandomBytes(void* target, size_t size) {
  constexpr size_t kMaxEntropyBytes = 256;  // of one call
  auto* bytes = static_cast<std::byte*>(target);
  while (size > 0) {
    const size_t piece = std::min(size, kMaxEntropyBytes);
    if (getentropy(bytes, piece) != 0) return Status::FromErrno(errno, "getentropy");
    bytes += piece;
    size -= piece;
  }
  return {};
}

}  // namespace faultless::os
