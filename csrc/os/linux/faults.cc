// Substitutes for pages that faulted, by raw system calls: sanitizers intercept the C library's mmap, and their
// interceptors may not run in a signal handler.
#include "os/posix/faults.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/os.h"

static_assert(sizeof(void*) == 8, "SYS_mmap takes an offset in bytes on 64-bit systems only");

namespace faultless::os {

namespace {

constexpr long kFailed = -1;  // syscall() itself translates errors

int Protection(bool writable) { return writable ? PROT_READ | PROT_WRITE : PROT_READ; }

long RawMap(std::byte* address, uint64_t length, int protection, int flags, int fd, uint64_t offset) {
  return syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

}  // namespace

Status PrepareSubstitutes() { return {}; }

bool MapZeros(std::byte* address, uint64_t length, bool writable) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  return RawMap(address, length, Protection(writable), flags, -1, 0) != kFailed;
}

bool MapOnesPage(std::byte* page, bool writable) {
  // Filled elsewhere, then moved over the page in one step: others see the old page or the full one. No descriptor is
  // kept for this, so none can be closed by a program that closes all it finds.
  const size_t page_size = PageSize();
  const long elsewhere =
      RawMap(nullptr, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (elsewhere == kFailed) return false;
  auto* words = reinterpret_cast<volatile uint64_t*>(elsewhere);  // volatile: no call of an intercepted memset
  for (size_t i = 0; i < page_size / sizeof(uint64_t); ++i) words[i] = ~uint64_t{0};
  if ((writable || syscall(SYS_mprotect, elsewhere, page_size, PROT_READ) == 0) &&
      syscall(SYS_mremap, elsewhere, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED, page) != kFailed) {
    return true;
  }
  syscall(SYS_munmap, elsewhere, page_size);
  return false;
}

bool MapFilePage(std::byte* page, int fd, uint64_t file_offset, bool writable, bool shared) {
  const int flags = (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE | MAP_FIXED;
  return RawMap(page, PageSize(), Protection(writable), flags, fd, file_offset) != kFailed;
}

}  // namespace faultless::os
