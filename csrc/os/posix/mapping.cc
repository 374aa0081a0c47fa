// Mapped memory: what POSIX offers everywhere.
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "os/os.h"
#include "os/posix/faults.h"
#include "os/posix/pages.h"

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

namespace faultless::os {

namespace {

enum class Touch : uint8_t { kRead, kWrite };

/** Touches each page under the fault handler, which answers for the pages that cannot be had. */
Status TouchPages(PageRange pages, Touch touch) {
  const bool writable = touch == Touch::kWrite;
  // Elsewhere a fault would go to the handler that was there before ours, most likely the end of the process.
  if (!IsRegisteredRange(pages.address, pages.length, writable)) {
    return Status(Code::kUnsupported, "only registered mappings can be populated on this system");
  }
  const size_t page_size = PageSize();
  const uint64_t faults_before = ThreadFaultCount();
  for (uint64_t i = 0; i < pages.length; i += page_size) {
    auto* byte = reinterpret_cast<uint8_t*>(pages.address + i);
    if (writable) {
      __atomic_fetch_add(byte, 0, __ATOMIC_RELAXED);  // a store that changes nothing, whoever else stores there
    } else {
      __atomic_load_n(byte, __ATOMIC_RELAXED);
    }
  }
  if (ThreadFaultCount() != faults_before) return Status(Code::kIo, "a page of the mapping could not be had");
  return {};
}

}  // namespace

Status MapFile(int fd, uint64_t offset, uint64_t length, Access access, bool shared, std::byte** base) {
  const int protection = access == Access::kReadWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  const int flags = (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE;
  void* address = mmap(nullptr, length, protection, flags, fd, static_cast<off_t>(offset));
  if (address == MAP_FAILED) return Status::FromErrno(errno, "mmap");
  *base = static_cast<std::byte*>(address);
  return {};
}

Status MapPrivateCopy(int fd, uint64_t file_bytes, uint64_t length, std::byte** base) {
  const int protection = PROT_READ | PROT_WRITE;
  void* const memory = mmap(nullptr, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return Status::FromErrno(errno, "mmap");
  // Pages behind the end of the file stay memory: of a longer mapping of the file they would be faults.
  const uint64_t pages = std::min((file_bytes + PageSize() - 1) & ~(uint64_t{PageSize()} - 1), length);
  if (pages != 0 && mmap(memory, pages, protection, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd, 0) == MAP_FAILED) {
    const Status status = Status::FromErrno(errno, "mmap");
    munmap(memory, length);
    return status;
  }
  *base = static_cast<std::byte*>(memory);
  return {};
}

Status UnmapFile(std::byte* base, uint64_t length) {
  if (munmap(base, length) != 0) return Status::FromErrno(errno, "munmap");
  return {};
}

Status PopulateReadByTouch(std::byte* address, uint64_t length) {
  return TouchPages(PagesAround(address, length), Touch::kRead);
}

Status PopulateWriteByTouch(std::byte* address, uint64_t length) {
  return TouchPages(PagesAround(address, length), Touch::kWrite);
}

Status LockPages(std::byte* address, uint64_t length) {
  const PageRange pages = PagesAround(address, length);
  if (pages.length == 0 || mlock(pages.address, pages.length) == 0) return {};
  const int error = errno;
  if (error != ENOMEM && error != EPERM && error != EAGAIN) return Status::FromErrno(error, "mlock");
  // ENOMEM also stands for a page that cannot be had (past the end of file): tell the two apart.
  Status populated = PopulateRead(pages.address, pages.length);
  if (populated.code() == Code::kIo) {
    munlock(pages.address, pages.length);
    return populated;
  }
  return Status::WithErrno(Code::kMemlock, error, "mlock");
}

Status UnlockPages(std::byte* address, uint64_t length) {
  const PageRange pages = PagesAround(address, length);
  if (pages.length != 0 && munlock(pages.address, pages.length) != 0) return Status::FromErrno(errno, "munlock");
  return {};
}

Status SyncMapped(std::byte* address, uint64_t length) {
  const PageRange pages = PagesAround(address, length);
  if (pages.length == 0) return {};
  int result;
  do {
    result = msync(pages.address, pages.length, MS_SYNC);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return Status::FromErrno(errno, "msync");
  return {};
}

}  // namespace faultless::os
